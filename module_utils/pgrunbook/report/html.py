# SPDX-License-Identifier: GPL-3.0-or-later
"""The report as one HTML file: no network, no script, for a screen, a telephone and paper."""

from __future__ import annotations

from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from ..core import printable
from .evidence import PROPOSED, blocks, differences, proposed, severity, told
from .markdown import SCHEMA_TEST, changed_parts
from .words import (
    PASSED,
    VERIFY,
    approver,
    facts_line,
    moment,
    passed_of,
    refused,
    refused_heading,
    skipped,
)

_STYLE = """
:root { color-scheme: light dark; --ground: #ffffff; --ink: #1f2328; --soft: #59636e;
  --line: #d0d7de; --panel: #f6f8fa; --pass: #116329; --warn: #7d4e00; --fail: #a40e26;
  --pass-ground: #dafbe1; --warn-ground: #fff8c5; --fail-ground: #ffebe9; --link: #0550ae; }
@media (prefers-color-scheme: dark) { :root { --ground: #0d1117; --ink: #e6edf3; --soft: #9198a1;
  --line: #3d444d; --panel: #161b22; --pass: #56d364; --warn: #e3b341; --fail: #ff9492;
  --pass-ground: #12261e; --warn-ground: #272115; --fail-ground: #2d1316; --link: #79c0ff; } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0 auto; max-width: 66rem; padding: 1rem; background: var(--ground);
  color: var(--ink); font: 16px/1.5 system-ui, "Segoe UI", "Liberation Sans", sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: 0.4rem 0; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; margin: 2.2rem 0 0.6rem; padding-top: 0.6rem;
  border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.2rem 0 0.4rem; }
p, li { overflow-wrap: anywhere; }
.soft { color: var(--soft); }
a { color: var(--link); }
nav a { display: inline-block; margin: 0 0.9rem 0.3rem 0; }
.badge { display: inline-block; padding: 0 0.5rem; border: 1px solid currentColor;
  border-radius: 1rem; font-size: 0.85rem; font-weight: 600; white-space: nowrap; }
.PASS, .GO { color: var(--pass); background: var(--pass-ground); }
.WARN, .WARNING { color: var(--warn); background: var(--warn-ground); }
.FAIL, .NO-GO, .CRITICAL { color: var(--fail); background: var(--fail-ground); }
.NOTE, .NOT { color: var(--soft); background: var(--panel); }
.verdict { border: 1px solid currentColor; border-radius: 6px; padding: 0.6rem 1rem; }
.verdict strong { font-size: 1.4rem; }
.verdict ul, .verdict p { color: var(--ink); margin: 0.3rem 0; }
table { border-collapse: collapse; width: 100%; font-size: 0.92rem; }
th, td { text-align: left; vertical-align: top; padding: 0.4rem 0.6rem; min-width: 6.5rem;
  border: 1px solid var(--line); overflow-wrap: anywhere; }
th { background: var(--panel); overflow-wrap: normal; }
td[data-label="Status"] { min-width: 0; }
td[data-label^="When"] { white-space: nowrap; font-variant-numeric: tabular-nums; }
pre { background: var(--panel); border: 1px solid var(--line); border-radius: 6px;
  padding: 0.6rem; margin: 0.4rem 0; font-size: 0.82rem; line-height: 1.4;
  white-space: pre-wrap; overflow-wrap: anywhere; tab-size: 2; }
code, pre, .mono { font-family: ui-monospace, "Liberation Mono", Menlo, Consolas, monospace; }
.mono { font-size: 0.85rem; overflow-wrap: anywhere; }
details { margin: 0.4rem 0; }
summary { cursor: pointer; color: var(--link); }
.plots { display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 26rem), 1fr)); }
figure { margin: 0; background: #ffffff; color: #1f2328; border: 1px solid var(--line);
  border-radius: 6px; padding: 0.5rem; break-inside: avoid; }
figcaption { font-weight: 600; }
figure svg { width: 100%; height: auto; display: block; }
.difference { border-left: 3px solid var(--line); padding-left: 0.8rem; margin: 0.8rem 0; }
.add { color: var(--pass); } .remove { color: var(--fail); }
@media (max-width: 40rem) {
  body { padding: 0.7rem; }
  table, tbody, tr, td { display: block; width: 100%; }
  thead { display: none; }
  tr { border: 1px solid var(--line); border-radius: 6px; margin-bottom: 0.6rem;
    padding: 0.3rem 0.6rem; }
  td { border: 0; padding: 0.15rem 0; }
  td:empty { display: none; }
  td[data-label^="When"] { white-space: normal; }
  td[data-label]::before { content: attr(data-label) ": "; color: var(--soft); }
}
@media print {
  :root { color-scheme: light; --ground: #ffffff; --ink: #000000; --soft: #444444;
    --line: #999999; --panel: #ffffff; --pass: #116329; --warn: #7d4e00; --fail: #a40e26;
    --pass-ground: #ffffff; --warn-ground: #ffffff; --fail-ground: #ffffff; --link: #000000; }
  @page { margin: 15mm; }
  html { font-size: 9pt; }
  body { max-width: none; padding: 0; font-size: 9pt; }
  nav { display: none; }
  h2, h3 { break-after: avoid; }
  tr, .difference, figure { break-inside: avoid; }
  thead { display: table-header-group; }
  .plots { grid-template-columns: 1fr 1fr; }
  details::details-content { content-visibility: visible; block-size: auto; }
}
"""

_PAGE = """
{%- macro badge(status) -%}
<span class="badge {{ status.split()[0] }}">{{ status }}</span>
{%- endmacro -%}
{%- macro table(header, rows) -%}
<table><thead><tr>{% for cell in header %}<th>{{ cell }}</th>{% endfor %}</tr></thead><tbody>
{% for row in rows %}<tr>{% for cell in row %}<td data-label="{{ header[loop.index0] }}">
{%- if header[loop.index0] == "Status" %}{{ badge(cell) }}{% else %}{{ cell }}{% endif -%}
</td>{% endfor %}</tr>
{% endfor %}</tbody></table>
{%- endmacro -%}
{%- macro differing(difference) -%}
<div class="difference">
<p>{{ badge(difference.severity) }} {{ difference.text }}</p>
{% if difference.impact %}<p class="soft">Impact: {{ difference.impact }}</p>{% endif %}
{% for option in difference.options %}
<p><strong>Option {{ loop.index }}{% if option.recommended %} (recommended){% endif %}</strong>:
{{ option.option }}{% if option.costs %}<br><span class="soft">Costs: {{ option.costs }}</span>
{% endif %}</p>
{% if option.sql %}<pre>{{ option.sql }}</pre>{% endif %}
{% endfor %}
</div>
{%- endmacro -%}
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; style-src 'unsafe-inline'">
<title>{{ report.title }}: {{ report.verdict }}</title>
<style>{{ style }}</style>
</head>
<body>
<header>
<h1>{{ report.title }}</h1>
<p class="soft">{{ facts_line }}</p>
<div class="verdict {{ report.verdict }}"><strong>{{ report.verdict }}</strong>
{% if report.reasons %}<p>Why not:</p>
<ul>{% for reason in report.reasons %}<li>{{ reason }}</li>{% endfor %}</ul>
{% else %}<p>{{ passed }}</p>{% endif %}
{% if missed %}<p>Missed, but not enforced by the phase: {{ missed | join("; ") }}.</p>{% endif %}
</div>
<nav aria-label="Sections"><p>
{% for name, title in sections %}<a href="#{{ name }}">{{ title }}</a>
{% endfor %}</p></nav>
</header>
<main>
<h2 id="summary">Summary</h2>
<ul>{% for sentence in report.summary %}<li>{{ sentence }}</li>{% endfor %}</ul>
{% if report.readiness %}
<h2 id="readiness">Readiness</h2>
{{ table(["Criterion", "Checks", "Status"], readiness) }}
{% endif %}
{% if report.risks %}
<h2 id="risks">Risks</h2>
{{ table(["Risk", "Likelihood", "Impact", "Mitigation"], risks) }}
{% endif %}
{% if plots %}
<h2 id="plots">Measured</h2>
<div class="plots">
{% for caption, drawing in plots.items() %}<figure role="img" aria-label="{{ caption }}">
<figcaption>{{ caption }}</figcaption>{{ drawing }}</figure>
{% endfor %}</div>
{% endif %}
{% if report.plan %}
<h2 id="plan">What would be done</h2>
<pre>{{ report.plan }}</pre>
{% endif %}
<h2 id="tests">Tests</h2>
{% for test in tests %}
<section>
<h3>Test {{ test.test }}: {{ test.title }} {{ badge(test.status) }}</h3>
<p>{{ test.objective }}</p>
{% if test.checks %}{{ table(["Check", "Target", "Measured", "Status"], test.rows) }}
{% else %}<p>Not run.</p>{% endif %}
{% if test.proposed %}<p>Indexes that would serve a query which misses its speed-up:</p>
{{ table(proposed_header, test.proposed) }}
{% endif %}
{% for check in test.checks %}
{% for difference in check.differences %}{{ differing(difference) }}{% endfor %}
{% if check.blocks %}<details><summary>Evidence: {{ check.title }}</summary>
{% for caption, text in check.blocks %}<p>{{ caption }}</p><pre>{{ text }}</pre>{% endfor %}
</details>{% endif %}
{% endfor %}
{% if test.drift %}<details><summary>Differences from the models before the run:
{{ test.drift | length }}</summary>
{% for difference in test.drift %}{{ differing(difference) }}{% endfor %}</details>{% endif %}
{% if test.repeat %}<details><summary>To repeat it by hand</summary>
{% for step in test.repeat %}<p>{{ step.what }}</p><pre>{{ step.command }}</pre>{% endfor %}
</details>{% endif %}
</section>
{% endfor %}
<h2 id="approvals">Approvals</h2>
{% if report.approvals %}
{{ table(["Approved", "By", "From", "How", "When"], approvals) }}
{% else %}<p>Nothing was approved.</p>{% endif %}
<h2 id="timeline">Timeline</h2>
{{ table(["When (UTC)", "What", "Detail"], timeline) }}
<h2 id="changes">What was changed</h2>
{% if report.kind == "run" %}
<p>{{ "{:,}".format(done.rows_changed) }} of {{ "{:,}".format(done.rows_total) }} rows were filled
in {{ done.seconds }} s ({{ "{:,}".format(done.rows_per_second) }} rows/s).
{% if skipped %}Not filled: {{ skipped }}.{% endif %}</p>
{% endif %}
{% for change in report.changes %}
<h3>{{ change.title }}</h3>
<p class="soft">Recorded in the ledger: {{ "{:,}".format(change.recorded) }}; taken back:
{{ "{:,}".format(change.taken_back) }}. Lock: {{ change.lock }}.
{% if change.omitted %}{{ change.omitted }} statements like one of these, for other partitions, are
left out.{% endif %}</p>
<pre>{{ change.sql_text }}</pre>
{% if change.undo_text %}<p class="soft">Undone by:</p>
<pre>{{ change.undo_text }}</pre>{% endif %}
{% else %}<p>No statement was approved.</p>
{% endfor %}
{% if refused %}<p>{{ refused_heading }}</p>
{{ table(["Row, by key", "What the server says"], refused) }}
{% endif %}
{% if done.left_alone %}<p>Left alone:</p>
<pre>{% for entry in done.left_alone %}{{ entry }}
{% endfor %}</pre>{% endif %}
<h2 id="undo">How to undo it</h2>
<p>{{ report.undo.text }}</p>
{% if report.undo.command %}<pre>{{ report.undo.command }}</pre>{% endif %}
{% if report.undo.statements %}<pre>{{ report.undo.sql_text }}</pre>{% endif %}
{% if schema %}
<h2 id="schema">Schema, before and after</h2>
{% for part, (number, lines) in schema.items() %}
<h3>{{ part | capitalize }}: {{ number }} afterwards</h3>
{% if lines %}<pre>{% for line in lines %}<span class="
{{- 'add' if line.startswith('+') else 'remove' }}">{{ line }}</span>
{% endfor %}</pre>{% else %}<p>No change.</p>{% endif %}
{% endfor %}
{% endif %}
<h2 id="proof">Whether this is the report that was written</h2>
<p class="mono">plan {{ report.plan_hash }}<br>
chain of events {{ "{:,}".format(report.chain.events) }}, the last one
{{ report.chain.head or "none" }}<br>
sha256 {{ report.sha256 }}</p>
<p>In the folder of this file; it says True where report.json is as it was written. The ledger has
the same sha256 in the event that ended the run; playbooks/status.yml compares all of that.</p>
<pre>{{ verify }}</pre>
</main>
</body>
</html>
"""

_SECTIONS = (
    ("summary", "Summary"),
    ("readiness", "Readiness"),
    ("risks", "Risks"),
    ("plots", "Measured"),
    ("plan", "What would be done"),
    ("tests", "Tests"),
    ("approvals", "Approvals"),
    ("timeline", "Timeline"),
    ("changes", "What was changed"),
    ("undo", "How to undo it"),
    ("schema", "Schema"),
    ("proof", "Proof"),
)


def html(report: dict[str, Any], plots: dict[str, str]) -> str:
    """The page. plots are SVG elements by caption, which are trusted; every other value is
    escaped, also for the eye."""
    report = printable.every(report)
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    schema = changed_parts(report["schema"])
    absent = {
        name
        for name, there in (
            ("readiness", report["readiness"]),
            ("risks", report["risks"]),
            ("plots", plots),
            ("plan", report["plan"]),
            ("schema", schema),
        )
        if not there
    }
    return environment.from_string(_PAGE.lstrip()).render(
        report=report,
        done=report["backfill"],
        style=Markup(_STYLE),
        plots={caption: Markup(drawing) for caption, drawing in plots.items()},
        sections=[section for section in _SECTIONS if section[0] not in absent],
        facts_line=facts_line(report),
        passed=PASSED[report["kind"]],
        missed=[c["title"] for c in report["checks"] if c["status"] == "warn"],
        readiness=[[r["criterion"], passed_of(r), r["status"]] for r in report["readiness"]],
        risks=[[r["risk"], r["likelihood"], r["impact"], r["mitigation"]] for r in report["risks"]],
        approvals=[
            [a["scope"], approver(a), a["approved_from"], a["method"], a["approved_at"]]
            for a in report["approvals"]
        ],
        timeline=[[moment(m["at"]), m["event"], m["text"]] for m in report["timeline"]],
        proposed_header=PROPOSED,
        tests=[_test(report, test) for test in report["tests"]],
        skipped=skipped(report["backfill"]),
        refused=refused(report["backfill"]),
        refused_heading=refused_heading(report["backfill"]),
        schema=schema,
        verify=VERIFY,
    )


def _test(report: dict[str, Any], test: dict[str, Any]) -> dict[str, Any]:
    """A test with its checks, and of each check what a reader unfolds."""
    checks = [check for check in report["checks"] if check["test"] == test["test"]]
    return {
        **test,
        "drift": [_difference(d) for d in report["drift"]] if test["test"] == SCHEMA_TEST else [],
        "proposed": proposed(checks),
        "rows": [[c["title"], c["target"], c["measured"], c["status"].upper()] for c in checks],
        "checks": [
            {
                "title": check["title"],
                "blocks": blocks(check),
                "differences": [_difference(d) for d in differences(check)],
            }
            for check in checks
        ],
    }


def _difference(difference: dict[str, Any]) -> dict[str, Any]:
    return {
        "severity": severity(difference).upper(),
        "text": told(difference),
        "impact": difference.get("impact", ""),
        "options": [
            {
                "option": option.get("option", ""),
                "sql": "\n".join(sql) if isinstance(sql := option.get("sql"), list) else sql,
                "costs": option.get("costs", ""),
                "recommended": option.get("recommended", False),
            }
            for option in difference.get("resolutions") or []
        ],
    }
