"""The discovery document, from which clients build themselves, made from the descriptors.

https://developers.google.com/discovery/v1/reference/apis has its form.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor

from longshore.api import wire
from longshore.api.wire import Rule

NAME = "storagebatchoperations"
VERSION = "v1"
PATHS = frozenset({"/$discovery/rest", f"/discovery/v1/apis/{NAME}/{VERSION}/rest"})
SCOPE = "https://www.googleapis.com/auth/cloud-platform"

_VARIABLE = re.compile(r"\{(\w+)=([^}]*)\}")
_SCALARS: dict[int, dict[str, Any]] = {
    FieldDescriptor.TYPE_STRING: {"type": "string"},
    FieldDescriptor.TYPE_BOOL: {"type": "boolean"},
    FieldDescriptor.TYPE_INT32: {"type": "integer", "format": "int32"},
    FieldDescriptor.TYPE_INT64: {"type": "string", "format": "int64"},
}
_WELL_KNOWN: dict[str, dict[str, Any]] = {
    "google.protobuf.Timestamp": {"type": "string", "format": "google-datetime"},
    "google.protobuf.Any": {"type": "object", "additionalProperties": {"type": "any"}},
}
_SYSTEM_PARAMETERS: dict[str, dict[str, Any]] = {
    "$.xgafv": {"enum": ["1", "2"]},
    "access_token": {},
    "alt": {"default": "json", "enum": ["json", "media", "proto"]},
    "callback": {},
    "fields": {},
    "key": {},
    "oauth_token": {},
    "prettyPrint": {"type": "boolean", "default": "true"},
    "quotaUser": {},
    "uploadType": {},
    "upload_protocol": {},
}
_PACKED = (wire.OperationMetadata,)
"""What no field's type names, as it comes in an Any only."""


def document(root_url: str) -> dict[str, Any]:
    """The document of the API that is served at ``root_url``, which ends in "/"."""
    return {**_fixed(), "rootUrl": root_url, "baseUrl": root_url}


@cache
def _fixed() -> dict[str, Any]:
    bound = [(method, rule) for method in wire.methods() if (rule := wire.rule_of(method))]
    resources: dict[str, Any] = {}
    roots = [message.DESCRIPTOR for message in _PACKED]
    path_fields: dict[str, set[str]] = {}
    for method, rule in bound:
        level: dict[str, Any] = {"resources": resources}
        for collection in _collections(rule):
            level = level.setdefault("resources", {}).setdefault(collection, {})
        described = _method(method, rule)
        level.setdefault("methods", {})[described["id"].rpartition(".")[2]] = described
        roots += [_body(method, rule), method.output_type] if rule.body else [method.output_type]
        if rule.body == "*":
            path_fields[method.input_type.full_name] = set(described["parameters"])
    return {
        "kind": "discovery#restDescription",
        "discoveryVersion": "v1",
        "id": f"{NAME}:{VERSION}",
        "name": NAME,
        "canonicalName": "Storage Batch Operations",
        "version": VERSION,
        "title": "Storage Batch Operations API",
        "protocol": "rest",
        "servicePath": "",
        "basePath": "",
        "batchPath": "batch",
        "fullyEncodeReservedExpansion": True,
        "auth": {"oauth2": {"scopes": {SCOPE: {"description": "Everything this API has."}}}},
        "parameters": {
            name: {"type": "string", "location": "query", **more}
            for name, more in _SYSTEM_PARAMETERS.items()
        },
        "resources": resources,
        "schemas": {
            message.name: _schema(message, path_fields.get(message.full_name, set()))
            for message in sorted(_closure(roots), key=lambda message: message.name)
        },
    }


def _collections(rule: Rule) -> list[str]:
    """``projects``, ``locations``, ``jobs``: the literals of the path, which are the resources."""
    parts = _VARIABLE.sub(lambda match: match[2], rule.path).partition(":")[0].split("/")
    return [part for part in parts[2:] if part != "*"]


def _method(method: MethodDescriptor, rule: Rule) -> dict[str, Any]:
    match = _VARIABLE.search(rule.path)
    assert match is not None  # noqa: S101 - every rule names a resource
    variable, template = match.groups()
    collections = _collections(rule)
    verb = re.match("[A-Z][a-z]+", method.name)
    assert verb is not None  # noqa: S101 - so are RPCs called
    flat = rule.path.replace(match[0], re.sub(r"(\w+)/\*", r"\1/{\1Id}", template))
    described: dict[str, Any] = {
        "id": ".".join([NAME, *collections, verb[0].lower()]),
        "httpMethod": rule.verb.upper(),
        "path": rule.path.replace(match[0], f"{{+{variable}}}").removeprefix("/"),
        "flatPath": flat.removeprefix("/"),
        "parameterOrder": [variable],
        "parameters": {
            variable: {
                "type": "string",
                "location": "path",
                "required": True,
                "pattern": f"^{template.replace('*', '[^/]+')}$",
            }
        },
        "response": {"$ref": method.output_type.name},
        "scopes": [SCOPE],
    }
    if rule.body:
        described["request"] = {"$ref": _body(method, rule).name}
    for field in method.input_type.fields:
        if rule.body not in ("*", field.name) and field.name != variable:
            repeated = {"repeated": True} if field.is_repeated else {}
            described["parameters"][field.json_name] = {
                **_type(field),
                **repeated,
                "location": "query",
            }
    return described


def _body(method: MethodDescriptor, rule: Rule) -> Descriptor:
    part = method.input_type.fields_by_name.get(rule.body)
    found = None if part is None else part.message_type
    return method.input_type if found is None else found


def _closure(roots: list[Descriptor]) -> Iterator[Descriptor]:
    """``roots`` and all messages in their fields, once, as far as they are objects in JSON."""
    seen = set()
    left = list(roots)
    while left:
        message = left.pop()
        if message.full_name in seen or message.full_name in _WELL_KNOWN:
            continue
        seen.add(message.full_name)
        if not message.GetOptions().map_entry:
            yield message
        left += [field.message_type for field in message.fields if field.message_type]


def _schema(message: Descriptor, path_fields: set[str]) -> dict[str, Any]:
    properties = {
        field.json_name: _property(field)
        for field in message.fields
        if field.json_name not in path_fields
    }
    return {"id": message.name, "type": "object", "properties": properties}


def _property(field: FieldDescriptor) -> dict[str, Any]:
    if (value := wire.map_value(field)) is not None:
        return {"type": "object", "additionalProperties": _type(value)}
    if field.is_repeated:
        return {"type": "array", "items": _type(field)}
    return _type(field)


def _type(field: FieldDescriptor) -> dict[str, Any]:
    if field.message_type is not None:
        known = _WELL_KNOWN.get(field.message_type.full_name)
        return known or {"$ref": field.message_type.name}
    if field.enum_type is not None:
        return {"type": "string", "enum": [value.name for value in field.enum_type.values]}
    return _SCALARS[field.type]
