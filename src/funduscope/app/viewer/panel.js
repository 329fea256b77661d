/* The place next to the photo where the photo's component puts layers, thresholds and lesions (photo.js). */

export default function ({ parentElement }) {
  window["funduscope-panel"] = parentElement.querySelector("[data-host]");
  document.dispatchEvent(new Event("funduscope-panel"));
}
