"""What the form for trying an endpoint reads in the OpenAPI document of its app, which may hold anything."""

import json

import pytest

from homeport.dashboard.pages import openapi


def document(schema, schemas=(), **more):
    """Return a document with one operation, whose body has a schema."""
    body = {"content": {"application/json": {"schema": schema}}}
    return json.dumps(
        {
            "paths": {"/items": {"post": {"summary": "Add one", "requestBody": body, **more}}},
            "components": {"schemas": dict(schemas)},
        }
    )


def example(schema, schemas=()):
    """Return the example of a body."""
    (operation,) = openapi.operations(document(schema, schemas))
    return json.loads(operation.body)


def test_an_operation_has_its_method_its_query_and_its_parameters():
    parameters = [
        {"name": "page", "in": "query", "schema": {"default": 3}},
        {"name": "a&b", "in": "query"},
        {"name": "id", "in": "path", "required": True},
    ]
    (operation,) = openapi.operations(document({"type": "string"}, parameters=parameters))

    assert ("POST", "Add one") == (operation.method, operation.summary)
    assert "/items?page=3&a%26b=" == operation.path
    assert ("page?", "a&b?", "id") == operation.parameters


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"type": "string"}, "text"),
        ({"type": "integer"}, 1),
        ({"type": "number"}, 1.0),
        ({"type": "boolean"}, True),
        ({"type": "null"}, None),
        ({"type": "string", "default": ""}, ""),
        ({"type": "string", "example": "a", "default": "b"}, "a"),
        ({"enum": ["red", "green"]}, "red"),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, 1),
        ({"allOf": [{"$ref": "#/components/schemas/Item"}]}, {"name": "text", "tags": ["text"]}),
        ({"$ref": "#/components/schemas/Item"}, {"name": "text", "tags": ["text"]}),
        ({"type": "array", "items": {"type": "integer"}}, [1]),
    ],
)
def test_a_body_fits_its_schema(schema, expected):
    properties = {
        "name": {"type": "string"},
        "tags": {"type": "array", "items": {"type": "string"}},
    }

    assert expected == example(schema, {"Item": {"type": "object", "properties": properties}})


def test_an_operation_without_a_body_has_no_example():
    (operation,) = openapi.operations('{"paths": {"/": {"get": {"description": "Look"}}}}')

    assert ("GET", "/", "Look", "") == (
        operation.method, operation.path, operation.summary, operation.body
    )  # fmt: skip


@pytest.mark.parametrize("width", [10, 1000])
def test_a_schema_that_has_itself_ends(width):
    one = {"$ref": "#/components/schemas/Tree"}
    tree = {"type": "object", "properties": {f"p{n}": one for n in range(width)}}
    (operation,) = openapi.operations(document(one, {"Tree": tree}))

    assert '"p0"' in operation.body
    assert len(operation.body) < 5 * openapi.MOST_TEXT


def test_a_long_default_is_not_written_again_and_again():
    word = {"type": "string", "default": "x" * 100_000}
    words = {"type": "object", "properties": {f"p{n}": {"$ref": "#/components/schemas/Word"} for n in range(5000)}}  # fmt: skip
    (operation,) = openapi.operations(document(words, {"Word": word}))

    assert len(operation.body) < 2 * openapi.MOST_TEXT


@pytest.mark.parametrize(
    "schema",
    [{"enum": []}, {"enum": 3}, {"$ref": 3}, {"$ref": "#/components/schemas/Gone"}, {"anyOf": {"a": 1}},
     {"type": "object", "properties": []}, {"type": "array", "items": 7}, "text", [1]],
)  # fmt: skip
def test_an_operation_that_cannot_be_read_is_left_out_and_the_others_stay(schema):
    body = json.loads(document(schema))
    body["paths"]["/good"] = {"get": {"summary": "Good"}, "x-other": {}}

    assert ["/good"] == [operation.path for operation in openapi.operations(json.dumps(body))]


@pytest.mark.parametrize(
    "text",
    ["", "<html>", "[]", "3", "{}", '{"paths": []}', '{"paths": {"/": []}}', '{"paths": {"/": null}}',
     "[" * 100_000, "1" * 5000],
)  # fmt: skip
def test_a_text_that_is_no_document_has_no_operations(text):
    assert [] == openapi.operations(text)


def test_a_document_with_many_operations_is_cut():
    paths = {f"/{n}": {"get": {}} for n in range(openapi.MOST_OPERATIONS + 1)}

    assert openapi.MOST_OPERATIONS == len(openapi.operations(json.dumps({"paths": paths})))
