"""Renders a chart without helm: the part of Go's templates and of Sprig that ours keeps to. What it does not know
it refuses, so that a chart cannot grow past what is checked. Where helm is installed it is asked too.
"""

import hashlib
import json
import re

import yaml


class Missing(Exception):
    """What `required` says."""


def render(folder, values, release="atp", namespace="default"):
    """Every document of a chart, by the template it is from."""
    chart = yaml.safe_load((folder / "Chart.yaml").read_text())
    merged = _merged(yaml.safe_load((folder / "values.yaml").read_text()), values)
    root = {
        "Values": merged,
        "Chart": {key[0].upper() + key[1:]: value for key, value in chart.items()},
        "Release": {"Name": release, "Namespace": namespace, "Service": "Helm"},
    }
    templates = {path.name: _parsed(path.read_text()) for path in sorted((folder / "templates").iterdir())}
    defined = {}
    for nodes in templates.values():
        defined |= {node[1]: node[2] for node in nodes if node[0] == "define"}
    engine = _Engine(root, defined)
    rendered = {name: engine.text(nodes, root) for name, nodes in templates.items() if not name.startswith("_")}
    notes = rendered.pop("NOTES.txt", "x")
    assert notes.strip(), "NOTES.txt says nothing"
    documents = {name: list(yaml.safe_load_all(text)) for name, text in rendered.items()}
    return {name: [one for one in found if one] for name, found in documents.items()}


def _merged(defaults, values):
    if not isinstance(defaults, dict) or not isinstance(values, dict):
        return values
    for name in values:
        # A chart's own values are the list of what there is; maps that are empty take anything.
        assert not defaults or name in defaults, f"the chart has no value {name}"
    return {**defaults, **{name: _merged(defaults.get(name), value) for name, value in values.items()}}


_PIECE = re.compile(r"\{\{(-?)\s*(.*?)\s*(-?)\}\}", re.DOTALL)


def _parsed(text):
    """Text and actions as a tree: (text, T) (say, E) (if, [(E, nodes)]) (with, E, nodes) (define, name, nodes)."""
    pieces, at, trims = [], 0, False
    for found in _PIECE.finditer(text):
        plain = text[at:found.start()]
        plain = plain.lstrip() if trims else plain
        pieces.append(("text", plain.rstrip() if found[1] else plain))
        pieces.append(("action", found[2]))
        at, trims = found.end(), bool(found[3])
    pieces.append(("text", text[at:].lstrip() if trims else text[at:]))
    nodes, rest, end = _block(pieces)
    assert not rest and end is None, f"{end} without its beginning"
    return nodes


def _block(pieces):
    nodes = []
    while pieces:
        (kind, text), *pieces = pieces
        word, _, rest = text.partition(" ")
        if kind == "text":
            nodes.append(("text", text))
        elif text.startswith("/*"):
            continue
        elif word in ("end", "else"):
            return nodes, pieces, text
        elif word in ("with", "define"):
            inner, pieces, end = _block(pieces)
            assert end == "end", f"{text} ends with {end}"
            nodes.append((word, rest.strip('"') if word == "define" else rest, inner))
        elif word == "if":
            branches, condition = [], rest
            while True:
                inner, pieces, end = _block(pieces)
                branches.append((condition, inner))
                if end == "end":
                    break
                condition = end.removeprefix("else").strip().removeprefix("if").strip() or "true"
            nodes.append(("if", branches))
        else:
            assert word not in ("range", "template", "block"), f"{word} is not known here"
            nodes.append(("say", text))
    return nodes, pieces, None


class _Engine:
    def __init__(self, root, defined):
        self.root, self.defined = root, defined

    def text(self, nodes, dot):
        said = ""
        for node in nodes:
            if node[0] == "text":
                said += node[1]
            elif node[0] == "say":
                said += _shown(self.value(node[1], dot))
            elif node[0] == "with":
                value = self.value(node[1], dot)
                said += self.text(node[2], value) if value else ""
            elif node[0] == "if":
                taken = (inner for condition, inner in node[1] if self.value(condition, dot))
                said += self.text(next(taken, []), dot)
        return said

    def value(self, pipeline, dot):
        tokens = re.findall(r'"(?:\\.|[^"\\])*"|[()|]|[^\s()|]+', pipeline)
        value, rest = self._pipeline(tokens, dot)
        assert not rest, f"{pipeline}: what is {rest}?"
        return value

    def _pipeline(self, tokens, dot):
        value, piped = None, False
        while True:
            arguments = []
            while tokens and tokens[0] not in ("|", ")"):
                token, *tokens = tokens
                if token == "(":
                    inner, tokens = self._pipeline(tokens, dot)
                    assert tokens[:1] == [")"], "a bracket is open"
                    arguments.append(inner)
                    tokens = tokens[1:]
                elif not arguments and re.fullmatch(r"[a-z]\w*", token) and token not in ("true", "false"):
                    arguments.append(getattr(self, f"fn_{token}"))
                else:
                    arguments.append(self._operand(token, dot))
            first, *others = arguments
            others += [value] if piped else []
            value = first(*others) if callable(first) else first
            assert callable(first) or not others, f"{first} is no function"
            if tokens[:1] != ["|"]:
                return value, tokens
            tokens, piped = tokens[1:], True

    def _operand(self, token, dot):
        if token.startswith('"'):
            return json.loads(token)
        if re.fullmatch(r"-?\d+", token):
            return int(token)
        if token in ("true", "false"):
            return token == "true"
        start, path = (self.root, token[1:]) if token.startswith("$") else (dot, token)
        assert path.startswith(".") or path == "", f"what is {token}?"
        for name in path.strip(".").split(".") if path.strip(".") else []:
            assert name in start, f"{token}: there is no {name}"
            start = start[name]
        return start

    def fn_include(self, name, dot):
        return self.text(self.defined[name], dot)

    def fn_nindent(self, count, text):
        return "\n" + self.fn_indent(count, text)

    def fn_indent(self, count, text):
        return "\n".join(" " * count + line for line in text.split("\n"))

    def fn_toYaml(self, value):
        return yaml.safe_dump(value, default_flow_style=False).rstrip("\n").removesuffix("\n...")

    def fn_toJson(self, value):
        return json.dumps(value, sort_keys=True, separators=(",", ":"))

    def fn_sha256sum(self, text):
        return hashlib.sha256(text.encode()).hexdigest()

    def fn_quote(self, value):
        return json.dumps(_shown(value))

    def fn_default(self, default, value):
        return value or default

    def fn_required(self, message, value):
        if not value:
            raise Missing(message)
        return value

    def fn_printf(self, form, *values):
        return form % tuple(_shown(value) for value in values)

    def fn_list(self, *values):
        return list(values)

    def fn_add(self, *numbers):
        return _Whole(sum(int(number) for number in numbers))

    def fn_mul(self, one, other):
        return _Whole(int(one) * int(other))

    def fn_int64(self, number):
        return _Whole(number)

    def fn_not(self, value):
        return not value

    def fn_trunc(self, count, text):
        return text[:count]

    def fn_trimSuffix(self, suffix, text):
        return text.removesuffix(suffix)


class _Whole(int):
    """A number that was made whole, and is written so."""


def _shown(value):
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    # Helm reads numbers of values as floating point, and writes large ones so.
    if isinstance(value, int) and not isinstance(value, _Whole) and abs(value) >= 1_000_000:
        raise AssertionError(f"{value} would be written {value:e}: pass it through int64")
    assert not isinstance(value, (dict, list)), f"{value} needs toYaml"
    return str(value)
