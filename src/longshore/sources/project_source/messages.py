"""The messages in which the checker hands its result over: cel.expr.CheckedExpr, as far as needed.

The library has them in C++ only, and no package has them for Python. Field numbers are those of
https://github.com/cel-expr/cel-spec, proto/cel/expr.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, message_factory

_PACKAGE = "cel.expr"
_Types = descriptor_pb2.FieldDescriptorProto
_SCALARS: Mapping[str, Any] = {
    "bool": _Types.TYPE_BOOL,
    "int32": _Types.TYPE_INT32,
    "int64": _Types.TYPE_INT64,
    "string": _Types.TYPE_STRING,
}
_MESSAGES: Mapping[str, str] = {
    "CheckedExpr": "4 expr Expr, 5 source_info SourceInfo",
    "SourceInfo": "4 positions Position*",
    "Position": "1 key int64, 2 value int32",  # an entry of a map
    "Expr": "2 id int64, 3 const_expr Constant|, 4 ident_expr Ident|, 5 select_expr Select|,"
    " 6 call_expr Call|, 7 list_expr CreateList|, 9 comprehension_expr Comprehension|",
    "Constant": "2 bool_value bool|, 3 int64_value int64|, 6 string_value string|",
    "Ident": "1 name string",
    "Select": "1 operand Expr, 2 field string, 3 test_only bool",
    "Call": "1 target Expr, 2 function string, 3 args Expr*",
    "CreateList": "1 elements Expr*",
    "Comprehension": "1 iter_var string, 2 iter_range Expr, 3 accu_var string, 4 accu_init Expr,"
    " 5 loop_condition Expr, 6 loop_step Expr, 7 result Expr, 8 iter_var2 string",
}
"""Number, name and type of each field; ``*`` repeated, ``|`` a member of the oneof ``kind``."""


def _build() -> Any:
    file = descriptor_pb2.FileDescriptorProto(
        name="longshore/cel.proto", package=_PACKAGE, syntax="proto3"
    )
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for number, field_name, type_ in (field.split() for field in fields.split(", ")):
            bare = type_.rstrip("*|")
            repeated = type_.endswith("*")
            label = _Types.LABEL_REPEATED if repeated else _Types.LABEL_OPTIONAL
            field = message.field.add(name=field_name, number=int(number), label=label)
            if bare in _SCALARS:
                field.type = _SCALARS[bare]
            else:
                field.type, field.type_name = _Types.TYPE_MESSAGE, f".{_PACKAGE}.{bare}"
            if type_.endswith("|"):
                if not message.oneof_decl:
                    message.oneof_decl.add(name="kind")
                field.oneof_index = 0
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    found = pool.FindMessageTypeByName(f"{_PACKAGE}.CheckedExpr")
    return message_factory.GetMessageClass(found)


_CheckedExpr = _build()


def checked_expr(serialized: bytes) -> Any:
    """The message behind what the library serializes."""
    return _CheckedExpr.FromString(any_pb2.Any.FromString(serialized).value)
