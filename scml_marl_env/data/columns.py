"""Column: a .npy file that grows."""

from pathlib import Path

import numpy as np


class Column:
    """An array on disk to which rows are appended; its header is true once it is closed.

    Args:
        path: of the .npy file.
        dtype: of it.
        row: shape of a row.
    """

    def __init__(self, path: Path, dtype: np.dtype, row: tuple[int, ...]) -> None:
        self.path, self.dtype, self.row = path, dtype, row
        self.n_rows = 0
        self._file = open(path, "wb")  # noqa: SIM115 - it stays open
        self._start = self._write_header()

    def check(self, rows: np.ndarray, count: int) -> None:
        """Raises ValueError unless `rows` are that many of this column, and lose nothing in its dtype."""
        if rows.shape != (count, *self.row):
            raise ValueError(f"{self.path.stem} has shape {rows.shape}, expected {(count, *self.row)}.")
        if rows.dtype != self.dtype and not np.array_equal(rows, rows.astype(self.dtype), equal_nan=True):
            if rows.dtype.kind == "f" and self.dtype.kind == "f":
                return
            raise ValueError(f"{self.path.stem} holds values that are no {self.dtype}.")

    def append(self, rows: np.ndarray) -> None:
        """Adds rows at the end."""
        self._file.write(np.ascontiguousarray(rows, self.dtype).tobytes())
        self.n_rows += len(rows)

    def close(self) -> list[int]:
        """Writes the header and returns the shape; a second call changes nothing."""
        if not self._file.closed:
            self._file.seek(0)
            if self._write_header() != self._start:
                raise RuntimeError(f"{self.path}: the header grew.")  # numpy leaves room for the length of the axis
            self._file.close()
        return [self.n_rows, *self.row]

    def _write_header(self) -> int:
        header = {"descr": self.dtype.str, "fortran_order": False, "shape": (self.n_rows, *self.row)}
        np.lib.format.write_array_header_1_0(self._file, header)
        return self._file.tell()
