"""Makes Arrow tables of rows, for Parquet files. A dataset's row type alone says which columns they have."""

import types
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, Literal, Union, get_args, get_origin, get_type_hints

import msgspec
import pyarrow as pa

from infra.export.rows import Dataset, Row

SCHEMA: Final = b"schema"
LAST_FACT_ID: Final = b"last_fact_id"

SIMPLE: Final = {
    str: pa.string(),
    int: pa.int64(),
    bool: pa.bool_(),
    datetime: pa.timestamp("us", tz="UTC"),
}


def schema(dataset: Dataset) -> pa.Schema:
    """Return the Arrow schema: a column for each field of the dataset's row type, in their order.

    Its metadata has `<dataset>/<version>` under the key SCHEMA.
    """
    return pa.schema(_fields(dataset.row_type), metadata={SCHEMA: dataset.schema})


def table(dataset: Dataset, rows: Sequence[Row]) -> pa.Table:
    """Make a table of these rows, of which there is at least one.

    Its metadata has what that of `schema` has, and the last row's `fact_id` under the key LAST_FACT_ID.
    """
    wanted = schema(dataset)
    columns = [pa.array([_plain(getattr(row, field.name)) for row in rows], type=field.type) for field in wanted]
    metadata = {**wanted.metadata, LAST_FACT_ID: rows[-1].fact_id}
    return pa.Table.from_arrays(columns, schema=wanted.with_metadata(metadata))


def _plain(value: Any) -> Any:
    """Turn a struct, or a tuple with what is in it, into values that Arrow takes; return other values unchanged.

    A struct becomes a dictionary. A datetime in a struct or tuple becomes a text, which no timestamp column takes.
    """
    return msgspec.to_builtins(value) if isinstance(value, tuple | msgspec.Struct) else value


def _fields(struct: type[msgspec.Struct]) -> list[pa.Field]:
    hints = get_type_hints(struct)
    return [_field(name, hints[name]) for name in struct.__struct_fields__]


def _field(name: str, kind: Any) -> pa.Field:
    if get_origin(kind) in (types.UnionType, Union):
        (inner,) = (option for option in get_args(kind) if option is not types.NoneType)
        return pa.field(name, _type(inner), nullable=True)
    return pa.field(name, _type(kind), nullable=False)


def _type(kind: Any) -> pa.DataType:
    if get_origin(kind) is Literal:
        return pa.string()
    if get_origin(kind) is tuple:
        return pa.list_(_field("element", get_args(kind)[0]))
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return pa.struct(_fields(kind))
    return SIMPLE[kind]
