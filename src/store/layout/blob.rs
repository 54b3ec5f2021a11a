//! A blob in the making.

use crate::digest::{Algorithm, Digest, Hasher};
use crate::error::{Error, Result};
use crate::root::{Root, Temporary};
use crate::spec::Descriptor;
use std::io::{Read, Write};

/// Copying goes through a buffer of this many bytes.
const BUFFER: usize = 256 << 10;

/// Writes and hashes a blob. It exists under its digest only after [`BlobWriter::finish`]; dropped before, it leaves
/// nothing.
#[derive(Debug)]
pub struct BlobWriter {
    directory: Root,
    temporary: Temporary,
    hasher: Hasher,
    size: u64,
}

impl BlobWriter {
    pub(super) fn start(directory: Root, algorithm: Algorithm) -> Result<Self> {
        let temporary = directory.temporary()?;
        Ok(BlobWriter { directory, temporary, hasher: Hasher::new(algorithm), size: 0 })
    }

    /// Appends `bytes`.
    ///
    /// # Errors
    /// When the system cannot write them.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.temporary
            .write_all(bytes)
            .map_err(|error| Error::io(self.directory.path().display(), "write a blob", error))?;
        self.hasher.update(bytes);
        self.size += bytes.len() as u64;
        Ok(())
    }

    /// Appends everything that `content` gives, and stops at the first byte beyond `size`.
    pub(super) fn write_all_of(&mut self, content: &mut dyn Read, size: u64) -> Result<()> {
        let mut buffer = vec![0; BUFFER];
        loop {
            let read = match content.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(read) => read,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Error::io("blob", "read", error)),
            };
            if self.size + read as u64 > size {
                return Err(Error::corrupt("blob", format!("longer than its {size} bytes")));
            }
            self.write(&buffer[..read])?;
        }
    }

    /// The blob as it would be if it ended here, of no particular type.
    pub(super) fn describe(&self) -> Descriptor {
        Descriptor::new("application/octet-stream", self.hasher.clone().finish(), self.size)
    }

    /// Gives the blob the name that its content has.
    pub(super) fn finish(self) -> Result<(Digest, u64)> {
        let (digest, size) = (self.hasher.finish(), self.size);
        self.temporary.persist(digest.hex())?;
        Ok((digest, size))
    }

    /// Completes a blob that was known before, if it is that one.
    pub(super) fn finish_as(self, descriptor: &Descriptor) -> Result<()> {
        let object = || format!("blob {}", descriptor.digest);
        if self.size != descriptor.size {
            let reason = format!("expected {} bytes, found {}", descriptor.size, self.size);
            return Err(Error::corrupt(object(), reason));
        }
        let digest = self.hasher.finish();
        if digest != descriptor.digest {
            return Err(Error::corrupt(object(), format!("its content has the digest {digest}")));
        }
        self.temporary.persist(digest.hex())
    }
}
