"""Texts that would like to be more than texts."""

from __future__ import annotations

HOSTILE = (
    "</script><script>window.hacked=1</script>",
    "<img src=x onerror=window.hacked=1>",
    '" onmouseover="window.hacked=1" x="',
    "'><svg onload=window.hacked=1>",
    "javascript:window.hacked=1",
    "&lt;b&gt; &amp; &#60;",
    "]]><!--<title></title></style></textarea><plaintext>",
    "\x00\x01\x07\x1b[31mred\x7f\x9b\r",
    "abc\u202egpj.exe\u2066\u200f\ufeff",
    "\udc80\udcff\ud800",
    "\u2028\u2029\x85",
    "=cmd|' /C calc'!A0",
    "{0} [click](https://example.org/evil) \\",
    "../../../../etc/passwd",
    "long " + "x" * 300_000,
    "",
)
