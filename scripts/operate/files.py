"""What the files of deploy/ and docs/ say: panels, and the names of metrics and keys."""

import json
import re
import tomllib

SUFFIXES = ("_bucket", "_sum", "_count")
# Grafana shows a unit that it does not know as it is, behind a number of any length.
UNITS = {"none", "s", "bytes", "percentunit", "ops", "eps", "reqps"}
# What looks like a metric's name and is none: the library, and words of the deployment.
NO_METRICS = {"senderz_gateway"}
SELECTOR = re.compile(r"\b((?:senderz|process)_[a-z0-9_]+)(\{[^{}]*\})?")
MATCHER = re.compile(r'(\w+)(=~|!~|!=|=)"([^"]*)"')


def dashboards(folder):
    for path in sorted(folder.glob("*.json")):
        yield path.name, json.loads(path.read_text())


def panels(folder):
    """Dashboard, title and expression of every target."""
    for name, dashboard in dashboards(folder):
        for panel in dashboard["panels"]:
            for target in panel.get("targets", []):
                yield name, panel["title"], target["expr"]


def badly_made(folder):
    """What a panel or a dashboard lacks."""
    for name, dashboard in dashboards(folder):
        variables = {variable["name"] for variable in dashboard["templating"]["list"]}
        if not {"datasource", "job", "instance"} <= variables:
            yield f"{name} lets nobody choose the datasource, job and instance"
        for panel in dashboard["panels"]:
            if panel["type"] == "row":
                continue
            title = panel.get("title")
            if not (title and panel.get("description")):
                yield f"{name}, {title}: no title or description"
            if panel["fieldConfig"]["defaults"].get("unit") not in UNITS:
                yield f"{name}, {title}: no unit of Grafana's"
            if any(part["datasource"]["uid"] != "${datasource}" for part in (panel, *panel["targets"])):
                yield f"{name}, {title}: another datasource than the chosen one"
            for target in panel["targets"]:
                if re.search(r"rate\([^)]*\[(?!\$__rate_interval\])", target["expr"]):
                    yield f"{name}, {title}: a rate over something else than $__rate_interval"


def undocumented(root, alerts):
    """What an alert lacks: its words, its page, a line in the index, a test of each kind."""
    index = (root / "docs/runbooks/README.md").read_text()
    tests = "".join(path.read_text() for path in sorted((root / "deploy/prometheus").glob("*.test.yml")))
    fires = set(re.findall(r"alertname: (\w+)\n\s+exp_alerts:\n", tests))
    is_quiet = set(re.findall(r"alertname: (\w+)\n\s+exp_alerts: \[\]", tests))
    pages = set()
    for alert in alerts:
        name, words = alert["name"], alert["annotations"]
        page = words.get("runbook_url", "")
        pages.add(page)
        if not (words.get("summary") and words.get("description") and alert["labels"].get("severity")):
            yield f"{name} has no summary, description or severity"
        if not (root / page).is_file() or f"`{name}`" not in (root / page).read_text():
            yield f"{name}: its runbook {page} is not there, or is not about it"
        if f"`{name}`" not in index:
            yield f"{name} is missing from docs/runbooks/README.md"
        if name not in fires or name not in is_quiet:
            yield f"{name} has no test of its firing, or none of its not firing"
    for path in sorted((root / "docs/runbooks").glob("*.md")):
        if path.name != "README.md" and str(path.relative_to(root)) not in pages:
            yield f"{path.name} is no alert's page"


def selectors(text):
    """Each selector of the text, once for each of the values that `=~"a|b"` stands for. Which job
    and instance is no business of the gateway's."""
    for name, matchers in sorted(set(SELECTOR.findall(text))):
        parts = [part for part in MATCHER.findall(matchers) if part[0] not in ("job", "instance")]
        if not parts or "$" in matchers:
            continue
        variants = [[]]
        for label, operator, value in parts:
            values = value.split("|") if operator == "=~" and re.fullmatch(r"[\w.|]+", value) else [value]
            operator = "=" if len(values) > 1 else operator
            variants = [[*variant, f'{label}{operator}"{one}"'] for variant in variants for one in values]
        for variant in variants:
            yield f"{name}{{{','.join(variant)}}}"


def documents(root):
    """Pages that people read, and what they deploy: all of it, whatever its name ends in. The
    changelog alone may name what is gone."""
    pages = [path for path in root.glob("*.md") if path.name != "CHANGELOG.md"]
    pages += [root / "config.toml", root / "benches/README.md", *(root / "docs").rglob("*.md")]
    return sorted(pages) + sorted(path for path in (root / "deploy").rglob("*") if path.is_file())


def metrics_named(root):
    for path in documents(root):
        for name in sorted(set(re.findall(r"(?<![\w:/.-])((?:senderz|process)_[a-z0-9_]+)", path.read_text()))):
            if name in NO_METRICS or name.endswith("_"):
                continue
            base = next((name.removesuffix(suffix) for suffix in SUFFIXES if name.endswith(suffix)), name)
            # A gauge may end like a histogram's part.
            yield path.relative_to(root), base


def recordings_named(root):
    """Recorded names in dashboards and pages, and in rules that read other rules."""
    pattern = re.compile(r"(?<![\w:])((?:job|instance|job_outcome):senderz_[a-z0-9_]+:[a-z0-9_]+|senderz:[a-z0-9_]+:[a-z0-9_]+)\b(?!\{\w+\})")
    for path in documents(root):
        for name in sorted(set(pattern.findall(path.read_text()))):
            yield path.relative_to(root), name


def keys(root):
    tables = tomllib.loads((root / "config.toml").read_text())
    found = set()
    for name, value in tables.items():
        found |= {f"{name}.{key}" for key in value} if isinstance(value, dict) else {name}
    return found


def keys_named(root):
    """Keys as `table.key`, and as the variable SENDERZ_TABLE__KEY."""
    tables = {key.split(".")[0] for key in keys(root) if "." in key}
    dotted = re.compile(rf"(?<![\w./$@-])(({'|'.join(sorted(tables))})\.[a-z][a-z0-9_]*)\b(?![/.(-])")
    for path in documents(root):
        text = path.read_text()
        for key, _ in sorted(set(dotted.findall(text))):
            if key.rsplit(".", 1)[1] not in {"md", "yml", "toml", "rs", "json", "sh"}:
                yield path.relative_to(root), key
        for variable in sorted(set(re.findall(r"\bSENDERZ_([A-Z0-9]+__[A-Z0-9_]+)\b", text))):
            yield path.relative_to(root), variable.lower().replace("__", ".", 1)


def variables(root):
    """Variables that are no key's, as the code names them."""
    found = {f"SENDERZ_{key.upper()}" for key in keys(root) if "." not in key}
    for path in (root / "src").rglob("*.rs"):
        if path.name != "tests.rs":
            found |= set(re.findall(r'"(SENDERZ_[A-Z_]+)"', path.read_text().split("#[cfg(test)]")[0]))
    return found


def variables_named(root):
    for path in documents(root):
        for variable in sorted(set(re.findall(r"\b(SENDERZ(?:_[A-Z0-9]+)+)\b(?!_)", path.read_text()))):
            yield path.relative_to(root), variable


def alerts_named(root):
    for path in documents(root):
        for name in sorted(set(re.findall(r"\bSenderz[A-Z]\w+", path.read_text()))):
            yield path.relative_to(root), name
