"""Lists tars as a reader that is not ours understands them: python3 listers.py tarfile|libarchive ARCHIVE...

One line an entry: kind mode uid gid size mtime path link, where names are in hexadecimal, since they may hold any byte,
and a dash stands for nothing. After each archive comes a line: "end", or "refused" and the reason.
"""

import ctypes
import os
import sys
import tarfile

reader, *archives = sys.argv[1:]


class Refused(Exception):
    """The reader does not take the archive."""


def put(kind, mode, uid, gid, size, mtime, path, link):
    if kind is None:
        raise Refused("an entry of no kind that we know")
    names = [name.hex() or "-" for name in (path, link)]
    print(kind, f"{mode & 0o7777:o}", uid, gid, size, mtime, *names)


class Entry(tarfile.TarInfo):
    @classmethod
    def fromtarfile(cls, tar):
        try:
            return super().fromtarfile(tar)
        except (tarfile.InvalidHeaderError, tarfile.TruncatedHeaderError) as error:
            # Behind the first entry, tarfile takes a header that it cannot read for the end.
            raise Refused(error) from error


def list_with_tarfile(archive):
    kinds = {
        tarfile.REGTYPE: "file",
        tarfile.AREGTYPE: "file",
        tarfile.CONTTYPE: "file",
        tarfile.LNKTYPE: "hardlink",
        tarfile.SYMTYPE: "symlink",
        tarfile.CHRTYPE: "character",
        tarfile.BLKTYPE: "block",
        tarfile.DIRTYPE: "directory",
        tarfile.FIFOTYPE: "fifo",
    }
    with tarfile.open(archive, "r:", encoding="utf-8", errors="surrogateescape", tarinfo=Entry) as tar:
        for entry in tar:
            link = entry.linkname if entry.issym() or entry.islnk() else ""
            path, link = (os.fsencode(name) for name in (entry.name, link))
            put(kinds.get(entry.type), entry.mode, entry.uid, entry.gid, entry.size, int(entry.mtime), path, link)
            # tarfile remembers every entry, and a layer may have a million.
            tar.members.clear()


def list_with_libarchive(archive):
    """bsdtar's library, asked directly: the text that bsdtar prints can be read in more than one way."""
    library = ctypes.CDLL("libarchive.so.13")

    def function(name, result, *arguments):
        found = getattr(library, name)
        found.restype, found.argtypes = result, arguments
        return found

    pointer, text, integer = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
    kinds = {
        0o100000: "file",
        0o120000: "symlink",
        0o20000: "character",
        0o60000: "block",
        0o40000: "directory",
        0o10000: "fifo",
    }
    tar = function("archive_read_new", pointer)()
    function("archive_read_support_format_tar", integer, pointer)(tar)
    function("archive_read_support_filter_all", integer, pointer)(tar)
    error = function("archive_error_string", text, pointer)
    if function("archive_read_open_filename", integer, pointer, text, ctypes.c_size_t)(tar, archive.encode(), 65536):
        raise Refused(error(tar))
    next_header = function("archive_read_next_header", integer, pointer, ctypes.POINTER(pointer))
    number = {
        name: function(f"archive_entry_{name}", ctypes.c_int64, pointer) for name in ("uid", "gid", "size", "mtime")
    }
    mode = {name: function(f"archive_entry_{name}", ctypes.c_uint, pointer) for name in ("filetype", "perm")}
    name = {key: function(f"archive_entry_{key}", text, pointer) for key in ("pathname", "symlink", "hardlink")}
    entry = pointer()
    end, warning = 1, -20
    while True:
        status = next_header(tar, ctypes.byref(entry))
        if status == end:
            break
        if status not in (0, warning):
            raise Refused(error(tar))
        hardlink = name["hardlink"](entry)
        kind = "hardlink" if hardlink is not None else kinds.get(mode["filetype"](entry))
        numbers = [number[key](entry) for key in ("uid", "gid", "size", "mtime")]
        link = hardlink or name["symlink"](entry) or b""
        put(kind, mode["perm"](entry), *numbers, name["pathname"](entry), link)


list_archive = {"tarfile": list_with_tarfile, "libarchive": list_with_libarchive}[reader]
for archive in archives:
    try:
        list_archive(archive)
        print("end")
    except (Refused, tarfile.TarError) as error:
        print("refused", repr(error))
