-- Sends the photographs of every stable study to funduscope's service, and stores its results in the same study.
-- FUNDUSCOPE_URL and FUNDUSCOPE_TOKEN: where the service listens, and its token if it has one.

local SERVICE = os.getenv('FUNDUSCOPE_URL') or 'http://127.0.0.1:8000'
local HEADERS = { ['Accept'] = 'multipart/related; type="application/dicom"', ['Content-Type'] = 'application/dicom' }
if os.getenv('FUNDUSCOPE_TOKEN') then
  HEADERS['Authorization'] = 'Bearer ' .. os.getenv('FUNDUSCOPE_TOKEN')
end

-- Of an instance: which results were made of it. Storing results makes the study stable once more; without this mark
-- the photographs would be read again and again.
local DONE = '4711'

-- Ophthalmic Photography 8 Bit and VL Photographic. The results themselves are of other classes.
local PHOTOS = {
  ['1.2.840.10008.5.1.4.1.1.77.1.5.1'] = true,
  ['1.2.840.10008.5.1.4.1.1.77.1.4'] = true,
}

-- Stores each part of the service's answer. The answer begins with --, the boundary and a line's end.
local function store(answer)
  local limit = string.sub(answer, 1, string.find(answer, '\r\n', 1, true) - 1)
  local count, start = 0, 1
  while true do
    local head = string.find(answer, '\r\n\r\n', start, true)
    if not head then
      return count
    end
    local stop = string.find(answer, '\r\n' .. limit, head + 4, true)
    RestApiPost('/instances', string.sub(answer, head + 4, stop - 1))
    count, start = count + 1, stop + 2
  end
end

-- Why a frame has no answer Orthanc does not tell: one that fails twice, the second time after the others, while the
-- service is ready, is taken for damaged. Nothing is stored before every frame was sent: storing makes the study stable
-- once more, and an instance without its mark would then be read again, for as long as one frame fails.
local function read(instance)
  local frames = tonumber(ParseJson(RestApiGet('/instances/' .. instance .. '/simplified-tags'))['NumberOfFrames']) or 1
  local photo = RestApiGet('/instances/' .. instance .. '/file')
  local answers, left = {}, {}
  for frame = 1, frames do
    table.insert(left, frame)
  end
  for _ = 1, 2 do
    local asked = left
    left = {}
    for _, frame in ipairs(asked) do
      local question = frames > 1 and ('?frame=' .. frame) or ''
      local answer = HttpPost(SERVICE .. '/v1/findings' .. question, photo, HEADERS)
      if answer and string.sub(answer, 1, 2) == '--' then
        table.insert(answers, answer)
      else
        table.insert(left, frame)
        if not HttpGet(SERVICE .. '/readyz') then
          print('funduscope is away; instance ' .. instance .. ' is to be read another time')
          return
        end
      end
    end
  end
  for _, frame in ipairs(left) do
    print('funduscope gave no result for instance ' .. instance .. ', frame ' .. frame)
  end
  local count = 0
  for _, answer in ipairs(answers) do
    count = count + store(answer)
  end
  if count > 0 then
    RestApiPut('/instances/' .. instance .. '/metadata/' .. DONE, tostring(count))
  end
end

function OnStableStudy(study, tags, metadata)
  for _, instance in pairs(ParseJson(RestApiGet('/studies/' .. study .. '/instances'))) do
    local of_instance = '/instances/' .. instance['ID'] .. '/metadata'
    local is_done = false
    for _, name in pairs(ParseJson(RestApiGet(of_instance))) do
      is_done = is_done or name == DONE
    end
    if not is_done and PHOTOS[RestApiGet(of_instance .. '/SopClassUid')] then
      read(instance['ID'])
    end
  end
end
