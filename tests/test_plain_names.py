"""Which names may stand in paths, on terminals, on pages and in spreadsheets as they are."""

import pytest

from pipeline.runtime.plain_names import is_formula, is_plain_name


@pytest.mark.parametrize(
    "name",
    [
        "a.png", "-1.png", "+", "-", "=", "@", "@2x (1).png", "-10C (2).png", "+45°", "it's #1!.png", "no. 7; left",
        "a=b.png", "ünïcode 😀", "שלום", "x" * 255, "ü" * 127, "<script>", "a|b", "$x$", "{{ 7 * 7 }}", "...", "~",
        "n+1", "@home", "a-b(c)", "-5.2 (copy).png", "+49 123.jpg", "-ve (mild)", "+ve(strong)", "-Bild (2).png",
        "-scan (v2).png", "@stop!.png", "+a|b", "+ (or -)", "-1;+1", "👩\u200d⚕️",
    ],
)  # fmt: skip
def test_names_that_people_use_are_plain(name):
    assert is_plain_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "=1+1", "=cmd|'C calc'!A0", "+cmd|' -C calc'!A0", "-cmd|'C calc'!A0.png", "@SUM(A1:A9)", "+SUM(A1)",
        "-2+3+cmd|' '!A", '=HYPERLINK("http:x")', '-HYPERLINK ("http:x")', "\uff1d1+1", "\uff0bSUM(A1)",
        "+'file:passwd'#$passwd.A1", "+'a b'#A1", "a;=1+1", "a; =cmd|'x'!A0", "@'[b.xls]s'!A1", "-[b.xls]s!A1",
        "+WEBSERVICE (A1)", "-SUM (A1:A9)", "-2+sum(aa10)", "+WEBSERVICE(CHAR(104))", "@CALL(A1; B1)",
        "+LOG10(A1)", "+X(LEFT(A))+b.png", "-\u2003WEBSERVICE\u2003(A1)", "+a &\u2003WEBSERVICE(A1)",
    ],
)  # fmt: skip
def test_formulas_of_spreadsheets_are_not(name):
    """From OWASP's page on CSV injection, and external references as LibreOffice and Excel write them."""
    assert not is_plain_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "", ".", "..", "a/b", "a\\b", "/a", "a\0", "a\nb", "a\rb", "\ta", "\x1b[2J", "a\x7f", "\x9b2J", "a\x85b",
        "a\u2028b", "a\u200eb", "a\u200fb", "a\u061cb", "\ufeffa", "a\u202ab",
        "gnp\u202e.exe", "\u2066a\u2069", "\udcff", "x" * 256, "ü" * 128,
    ],
)  # fmt: skip
def test_what_leads_elsewhere_or_moves_the_cursor_is_not(name):
    assert not is_plain_name(name)


def test_plain_names_may_make_a_formula_of_a_path():
    assert all(map(is_plain_name, ["+1", "-wow|a", "+ve (x)"]))
    assert is_formula("+1/cmd|' -C calc'!A0.png")
    assert is_formula("-1/WEBSERVICE(A1)")
    assert is_formula("+1;/a|b!")
    assert not any(map(is_formula, ["=/a.png", "-/scan (v2).png", "+1/a.png", "@2x/b (1).png", "+ve (mild)/it's!.png"]))
