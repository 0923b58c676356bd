"""From records to what people read: one table of rows, published as pages and on the terminal.

Everything here is a pure function of the records and the sample pictures beside them: same records, same bytes.
"""
