"""Checks an OCI image layout: python3 schemas.py SCHEMAS LAYOUT

Every document against its official schema, every blob against its descriptor, every layer against its diff ID.
Prints one fault a line, and exits with 1 if there is one.
"""

import hashlib
import json
import os
import subprocess
import sys
import zlib

import jsonschema

schema_directory, layout = sys.argv[1:]
faults = []


def load_schema(name):
    with open(os.path.join(schema_directory, name)) as file:
        return without_ids(json.load(file))


def without_ids(node):
    """The schemas refer to each other by file name; their ids would make those relative to addresses in the network."""
    if isinstance(node, list):
        return [without_ids(child) for child in node]
    if not isinstance(node, dict):
        return node
    return {key: without_ids(child) for key, child in node.items() if not (key == "id" and isinstance(child, str))}


schemas = {name: load_schema(name) for name in os.listdir(schema_directory) if name.endswith(".json")}


def check_document(where, document, schema_name):
    resolver = jsonschema.RefResolver("", schemas[schema_name], store=schemas)
    validator = jsonschema.Draft4Validator(
        schemas[schema_name], resolver=resolver, format_checker=jsonschema.draft4_format_checker
    )
    for error in validator.iter_errors(document):
        path = "/".join(str(part) for part in error.absolute_path)
        faults.append(f"{where}: {path}: {error.message}")


def unique_keys(pairs):
    keys = [key for key, _ in pairs]
    if len(keys) != len(set(keys)):
        raise ValueError(f"a key occurs twice among {sorted(keys)}")
    return dict(pairs)


def parse(where, data):
    try:
        return json.loads(data, object_pairs_hook=unique_keys)
    except ValueError as error:
        faults.append(f"{where}: {error}")
        return None


def blob(where, descriptor):
    """The blob's bytes, or None where it is missing or not what the descriptor says."""
    algorithm, encoded = descriptor["digest"].split(":", 1)
    path = os.path.join(layout, "blobs", algorithm, encoded)
    referenced.add(path)
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        faults.append(f"{where}: {error}")
        return None
    if len(data) != descriptor["size"]:
        faults.append(f"{where}: {len(data)} bytes, and the descriptor says {descriptor['size']}")
    if hashlib.new(algorithm, data).hexdigest() != encoded:
        faults.append(f"{where}: content does not have the digest {descriptor['digest']}")
        return None
    return data


def uncompressed(media_type, data):
    if media_type.endswith("gzip"):
        plain = b""
        while data:
            member = zlib.decompressobj(wbits=31)
            plain += member.decompress(data) + member.flush()
            if not member.eof:
                raise ValueError("the last gzip member is cut short")
            data = member.unused_data
        return plain
    if media_type.endswith("zstd"):
        return subprocess.run(["zstd", "-dc"], input=data, stdout=subprocess.PIPE, check=True).stdout
    return data


def check_manifest(where, data):
    manifest = parse(where, data)
    if manifest is None:
        return
    check_document(where, manifest, "image-manifest-schema.json")
    config_data = blob(f"{where}: config", manifest["config"])
    config = config_data and parse(f"{where}: config", config_data)
    if not config:
        return
    check_document(f"{where}: config", config, "config-schema.json")
    diff_ids = config["rootfs"]["diff_ids"]
    history = config.get("history")
    if history is not None and len([step for step in history if not step.get("empty_layer")]) != len(diff_ids):
        faults.append(f"{where}: config: history does not match {len(diff_ids)} layers")
    if len(manifest["layers"]) != len(diff_ids):
        faults.append(f"{where}: {len(manifest['layers'])} layers, and the config has {len(diff_ids)} diff IDs")
    for number, (layer, diff_id) in enumerate(zip(manifest["layers"], diff_ids)):
        data = blob(f"{where}: layer {number}", layer)
        if data is None:
            continue
        try:
            plain = uncompressed(layer["mediaType"], data)
        except (ValueError, zlib.error, subprocess.CalledProcessError) as error:
            faults.append(f"{where}: layer {number}: {error}")
            continue
        if "sha256:" + hashlib.sha256(plain).hexdigest() != diff_id:
            faults.append(f"{where}: layer {number}: content does not have the diff ID {diff_id}")


def check_index(where, data):
    index = parse(where, data)
    if index is None:
        return
    check_document(where, index, "image-index-schema.json")
    for descriptor in index["manifests"]:
        data = blob(descriptor["digest"], descriptor)
        if data is not None:
            is_index = descriptor["mediaType"].endswith((".index.v1+json", ".list.v2+json"))
            (check_index if is_index else check_manifest)(descriptor["digest"], data)


referenced = set()
for name in ("oci-layout", "index.json"):
    with open(os.path.join(layout, name), "rb") as file:
        data = file.read()
    if name == "oci-layout":
        check_document(name, parse(name, data), "image-layout-schema.json")
    else:
        check_index(name, data)
for directory, _, names in os.walk(os.path.join(layout, "blobs")):
    for name in names:
        if os.path.join(directory, name) not in referenced:
            faults.append(f"{name}: nothing refers to it")

for fault in faults:
    print(fault)
sys.exit(1 if faults else 0)
