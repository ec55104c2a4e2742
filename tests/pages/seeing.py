"""What tests ask a page about how it looks: expressions for ``Page.value``."""

from __future__ import annotations

CONTRAST = """(() => {
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", {willReadFrequently: true});
  const rgb = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const linear = (c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  const luminance = ([r, g, b]) => 0.2126 * linear(r / 255) + 0.7152 * linear(g / 255) + 0.0722 * linear(b / 255);
  const behind = (element) => {
    for (let each = element; each; each = each.parentElement) {
      const colour = rgb(getComputedStyle(each).backgroundColor);
      if (colour[3] === 255) return colour;
    }
    return [255, 255, 255, 255];
  };
  const pairs = new Map();
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const element = node.parentElement;
    if (!node.data.trim() || element.closest("script, style, noscript, title")) continue;
    const style = getComputedStyle(element);
    const colours = [rgb(element.closest("svg") ? style.fill : style.color), behind(element)];
    const [light, dark] = colours.map(luminance).sort((one, other) => other - one);
    const kind = element.localName + "." + element.getAttribute("class");
    pairs.set(kind, Math.min(pairs.get(kind) ?? Infinity, (light + 0.05) / (dark + 0.05)));
  }
  const figures = [...document.querySelectorAll("rect")].map((each) => {
    const [light, dark] = [rgb(getComputedStyle(each).fill), behind(each)].map(luminance).sort((one, other) => other - one);
    return [each.getAttribute("class"), (light + 0.05) / (dark + 0.05)];
  });
  return {texts: [...pairs], figures};
})()"""
"""The least contrast of each kind of text, and that of each box of a drawing with what is behind it."""
