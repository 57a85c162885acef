"""Records are appended whole or not at all, whatever the disk does."""

import io
import resource

import pytest

from rlopt.files.appending import AppendedFile


def test_records_follow_what_was_there(tmp_path):
    (tmp_path / "file").write_bytes(b"old ")
    file = AppendedFile(tmp_path / "file")
    file.append(b"new ")
    file.append(b"")
    file.append(b"newer")
    file.synchronise()
    assert (tmp_path / "file").read_bytes() == b"old new newer"
    file.close()
    with pytest.raises(FileExistsError):
        AppendedFile(tmp_path / "file", new=True)


def test_a_record_that_is_cut_short_leaves_nothing(tmp_path):
    """A limit on the size of files is a full disk."""
    file = AppendedFile(tmp_path / "file", new=True)
    file.append(b"whole ")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, limits[1]))
    try:
        for _ in range(2):
            with pytest.raises(OSError):
                file.append(b"too long")
            assert (tmp_path / "file").read_bytes() == b"whole "
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    file.append(b"again")
    assert (tmp_path / "file").read_bytes() == b"whole again"
    file.close()


def test_what_could_not_be_cut_is_cut_before_the_next_record(tmp_path):
    file = AppendedFile(tmp_path / "file", new=True)
    file.append(b"whole ")
    raw = file._file

    class Failing(io.RawIOBase):
        """Writes three bytes, then nothing, and cannot be cut."""

        def write(self, content):
            raw.write(bytes(content)[:3])
            raise OSError(28, "No space left on device")

        def truncate(self, size=None):
            raise OSError(5, "Input/output error")

    file._file = Failing()  # type: ignore[assignment]
    with pytest.raises(OSError, match="No space"):
        file.append(b"next")
    assert (tmp_path / "file").read_bytes() == b"whole nex"
    with pytest.raises(OSError, match="Input/output"):
        file.append(b"next")
    file._file = raw
    file.append(b"last")
    assert (tmp_path / "file").read_bytes() == b"whole last"
    file.close()
