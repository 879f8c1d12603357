{
  const report = JSON.parse(document.getElementById("report").textContent);
  const said = document.getElementById("said");
  const element = (tag, text, className) => {
    const made = document.createElement(tag);
    if (text !== undefined) made.textContent = text;
    if (className) made.className = className;
    return made;
  };
  const number = (value, digits = 2) => value === null ? "–" : value.toFixed(digits).replace("-", "−");
  const save = (name, text, type) => {
    const link = element("a");
    link.href = URL.createObjectURL(new Blob([text], { type }));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
    said.textContent = `${name} saved`;
  };
  const field = value => value === null ? "" : /[",\n\r]/.test(value) ? `"${String(value).replaceAll('"', '""')}"` : String(value);

  // Facets take no width of their container: it is dealt to the panels, as many beside each other as fit.
  const sized = spec => spec.facet ? spec.spec : spec;
  const fitted = (source, width) => {
    const spec = structuredClone(source);
    const { panels, most } = spec.usermeta, beside = Math.max(1, Math.min(panels, 3, Math.floor(width / 230)));
    spec.usermeta.beside = beside;
    sized(spec).width = panels > 1 ? Math.floor((width - 62 - 28 * (beside - 1)) / beside) : Math.min(width, most || width);
    if (spec.columns) spec.columns = beside;
    return spec;
  };
  const charts = new Map();
  const options = { ast: true, actions: false, renderer: "svg", logLevel: 1, defaultStyle: false, tooltip: { disableDefaultStyle: true } };
  const draw = async (place, picture) => {
    const width = place.clientWidth, spec = fitted(picture.spec, width);
    let { view } = await vegaEmbed(place, spec, options);
    // What labels and legends take is known once they are drawn.
    const over = place.querySelector("svg").viewBox.baseVal.width - Math.min(width, spec.usermeta.most || width);
    if (Math.abs(over) > 2) {
      view.finalize();
      const part = sized(spec);
      part.width = Math.max(80, part.width - Math.ceil(over / spec.usermeta.beside));
      ({ view } = await vegaEmbed(place, spec, options));
    }
    place.querySelector("svg").setAttribute("role", "img");
    place.querySelector("svg").setAttribute("aria-label", picture.sentence);
    charts.set(place, { view, width });
    if (picture.spec.usermeta.map) view.addEventListener("click", (event, item) => {
      const cell = item && item.datum;
      if (cell && cell.function !== undefined && cell.neuron !== undefined) show(picture.subject, cellOf(picture.subject, cell));
    });
  };

  // A cell of a map: the numbers of its function and its layer, as the selects above a card have them.
  const cellOf = (subject, datum) => [
    report.subjects[subject].functions.findIndex(([family, name]) => family === datum.family && name === datum.function),
    report.subjects[subject].layers.findIndex(([stack, layer]) => stack === datum.stack && layer === datum.layer),
  ];
  const show = (subject, [row, column]) => {
    const place = document.getElementById(`cards-${subject}`), of = report.subjects[subject];
    const [family, name] = of.functions[row], [stack, layer] = of.layers[column];
    const neuron = of.neurons[`${row},${column}`], card = of.cards[`${row},${column}`];
    const body = place.querySelector(".card");
    body.replaceChildren();
    place.querySelector("[data-choose=function]").value = row;
    place.querySelector("[data-choose=layer]").value = column;
    const command = `${of.command} --layer ${layer} --neuron ${neuron}` + (stack === "encoder" ? "" : ` --stack ${stack}`);
    const head = element("header");
    body.append(head);
    if (!card) {
      head.append(element("p", neuron === undefined ? "No neuron of this layer has most evidence for the function." : `Neuron ${neuron} has no card in this page, which holds those of the highest cells:`));
      if (neuron !== undefined) head.append(element("code", command));
      return;
    }
    head.append(element("h4", `Neuron ${neuron} of ${stack} layer ${layer}, for ${family}/${name}`));
    const [held, random, control] = card.held_out;
    head.append(element("p", `Held-out lift ${number(held)}` + (random === null ? "" : `, at random initialisation ${number(random)}`) + (control === null ? "" : `, for control functions ${number(control)}`), "soft"));
    const left = element("div"), right = element("div");
    const listed = element("section");
    listed.append(element("h5", "Best evidence for"));
    const table = element("table");
    const heads = element("tr");
    heads.append(element("th", "function"), element("th", "lift", "number"), element("th", "p", "number"));
    table.append(heads);
    for (const [detected, lift, direction, p] of card.functions) {
      const row = element("tr");
      row.append(element("td", (direction === "complement" ? "not " : "") + detected), element("td", number(lift), "number"), element("td", p === null ? "" : p < .001 ? "< .001" : p.toFixed(3), "number"));
      table.append(row);
    }
    listed.append(table);
    left.append(listed);
    for (const [direction, tokens] of card.words) {
      const part = element("section"), words = element("div", undefined, "words");
      for (const token of tokens) words.append(element("span", token));
      part.append(element("h5", direction === "writes" ? "Its weights write" : "Its weights read"), words);
      left.append(part);
    }
    left.append(element("code", command));
    for (const [side, texts] of card.sides) {
      const part = element("section"), list = element("ul", undefined, "texts");
      part.append(element("h5", `Texts that activate it most, ${side} ${name}`));
      for (const [activation, text] of texts) {
        const item = element("li"), words = element("span");
        if (typeof text === "string") words.textContent = text;
        else for (const [piece, share] of text) words.append(share > 0 ? element("mark", piece, share < .34 ? "low" : share < .67 ? "middle" : "") : piece);
        item.append(element("span", number(activation)), words);
        list.append(item);
      }
      part.append(list);
      right.append(part);
    }
    if (!card.sides.length) right.append(element("p", "No texts are stored.", "soft"));
    body.append(left, right);
    said.textContent = head.querySelector("h4").textContent;
  };

  const numbers = picture => {
    const table = element("table"), head = element("tr");
    for (const column of picture.columns) head.append(element("th", column.replaceAll("_", " ")));
    table.append(head);
    for (const values of picture.rows.slice(0, 500)) {
      const row = element("tr");
      for (const value of values) row.append(element("td", value === null ? "" : String(value), typeof value === "number" ? "number" : ""));
      table.append(row);
    }
    if (picture.rows.length > 500) table.append(element("caption", `500 of ${picture.rows.length} rows; the CSV has all`));
    return table;
  };

  const drawn = [];
  report.pictures.forEach(picture => {
    const figure = document.getElementById(picture.id), place = figure.querySelector(".chart");
    drawn.push(draw(place, picture).catch(error => { place.textContent = `The chart could not be drawn: ${error.message}`; console.error(error); }));
    figure.addEventListener("click", event => {
      const what = event.target.dataset.do;
      if (what === "csv") save(`${picture.name}.csv`, [picture.columns, ...picture.rows].map(row => row.map(field).join(",")).join("\n") + "\n", "text/csv");
      if (what === "svg") charts.get(place).view.toSVG().then(text => save(`${picture.name}.svg`, text, "image/svg+xml"));
      if (what === "copy") {
        const code = figure.querySelector("code"), range = document.createRange();
        range.selectNodeContents(code);
        getSelection().removeAllRanges();
        getSelection().addRange(range);
        Promise.resolve(navigator.clipboard ? navigator.clipboard.writeText(code.textContent) : Promise.reject()).then(() => "SQL copied", () => document.execCommand("copy") ? "SQL copied" : "SQL selected").then(text => { said.textContent = text; event.target.textContent = text; });
      }
    });
    const details = figure.querySelector(".numbers");
    details.addEventListener("toggle", () => { if (details.open && !details.querySelector("table")) details.querySelector("div").append(numbers(picture)); });
  });
  document.querySelectorAll(".cards").forEach(place => {
    const subject = place.dataset.subject;
    const [row, column] = [...place.querySelectorAll("select")];
    const chosen = () => show(subject, [Number(row.value), Number(column.value)]);
    place.querySelectorAll("select").forEach(select => select.addEventListener("change", chosen));
    chosen();
  });
  let wait;
  addEventListener("resize", () => {
    clearTimeout(wait);
    wait = setTimeout(() => report.pictures.forEach(picture => {
      const place = document.getElementById(picture.id).querySelector(".chart"), chart = charts.get(place);
      if (chart && Math.abs(chart.width - place.clientWidth) > 4) { chart.view.finalize(); draw(place, picture); }
    }), 150);
  });
  // A test waits for this.
  Promise.all(drawn).then(() => { document.documentElement.dataset.drawn = drawn.length; });
}
