/* The patients of a session, both eyes side by side; a photo that is chosen is sent back as the trigger `open`. */

class ManyPage {
  constructor(host) {
    this.host = host;
    this.drawn = "";
  }

  update(data, send) {
    this.send = send;
    const stamp = JSON.stringify(data);
    if (stamp === this.drawn) return;
    this.drawn = stamp;
    this.host.replaceChildren(make("ol", { class: "patients" }, data.patients.map((patient) => this.makePatient(patient))));
  }

  makePatient(patient) {
    return make("li", { class: "card", "data-patient": patient.name }, [
      make("h3", {}, [make("span", { text: patient.name }), makeState(patient)]),
      make("div", { class: "eyes" }, patient.eyes.map((eye) => this.makeEye(eye))),
    ]);
  }

  makeEye(eye) {
    return make("section", { "data-eye": eye.eye }, [
      make("h4", {}, [make("span", { text: eye.title }), ...eye.states.map(makeState)]),
      ...eye.photos.map((photo) => this.makePhoto(photo)),
    ]);
  }

  makePhoto(photo) {
    const button = make("button", { type: "button", "data-open": photo.key }, [
      make("img", { src: photo.picture, alt: "", loading: "lazy" }), make("span", { text: photo.name }),
    ]);
    button.addEventListener("click", () => this.send("open", photo.key));
    return make("div", { class: "photo" }, [button, make("div", {}, [
      ...photo.answers.map((text) => make("p", { class: "answer", text })),
      make("ul", {}, photo.reasons.map((text) => make("li", { text }))),
      ...photo.notes.map((text) => make("p", { class: "dim", text })),
    ])]);
  }
}

const makeState = ({ state, text }) => make("span", { class: `state is-${state}`, text });

const pages = new WeakMap();

export default function ({ data, parentElement, setTriggerValue }) {
  const host = parentElement.querySelector("[data-host]");
  if (!pages.has(host)) pages.set(host, new ManyPage(host));
  pages.get(host).update(data, setTriggerValue);
}
