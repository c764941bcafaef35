"""Other frameworks' file formats, read and written without the frameworks."""
