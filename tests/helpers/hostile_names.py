"""Names of files that break programs which take them for patterns, options, markup, lines or paths."""

from __future__ import annotations

HOSTILE_NAMES = [
    *("[x]", "*", "a b", " lead", "trail ", "it's", '"quoted"', "new\nline", "-leading-dash", "--recursive"),
    *("ünïcödé-日本", "a" * 255, "%41", "a+b", "a&b=c#d?e", "$(touch x)", "back\\slash", "tab\there", "\x1b[31mred"),
    *("~", "...", "file:\\x", "..lead", "in..side", "trail.", "carriage\rreturn", "\x01\x7f", "a:b", "a;b|c>d", "`id`"),
    *("🧬" * 63, "é", "e\u0301", "A", "a", "<a>&amp;", "%2F%", "{x,y}", "\u202egnp.exe", "\ufeffmark", "\uffff"),
]
