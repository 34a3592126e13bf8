class DefusedXmlException(ValueError): ...  # noqa: N818 - the library's name
