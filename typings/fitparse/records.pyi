class FieldData:
    name: str
    value: object
    field_def: object | None

class DataMessage:
    type: str
    fields: list[FieldData]
