//! Decompresses a stream to its very end.
//!
//! Decoders of many libraries stop after the first gzip member and ignore the rest; a layer read this way looks
//! complete and is not. Here every member is read, and anything but zero padding after the last one is an error.

use super::Encoding;
use crate::codec::compression::gzip_members::{GzipMembers, MemberRecorder, MemberSource};
use crate::codec::compression::noted_members::{MemberNotes, NotedContent, NotedSource};
use crate::common::error::Error;
use flate2::bufread::GzDecoder;
use std::io::{self, BufRead, BufReader, Read};

/// The size of the read buffer in bytes.
///
/// It is large enough that reading needs few system calls, and small enough for many open readers.
const BUFFER: usize = 128 << 10;

/// Returns a reader of the decompressed content of `source`.
///
/// # Errors
/// Returns an error if the decoder cannot be created. The reader returns an error for malformed or truncated input.
pub fn decode<'a>(source: impl Read + Send + 'a, encoding: Encoding) -> io::Result<Box<dyn Read + Send + 'a>> {
    let source = Uninterrupted(source);
    match encoding {
        Encoding::Plain => Ok(Box::new(source)),
        Encoding::Gzip => Ok(Box::new(GzipReader::Before(BufReader::with_capacity(BUFFER, source)))),
        Encoding::Zstd => {
            let decoder = zstd::Decoder::with_buffer(BufReader::with_capacity(BUFFER, source))?;
            Ok(Box::new(Frames(decoder)))
        }
    }
}

/// Returns a reader of the content of a gzip `source`.
///
/// It adds the members that it has read to `members`.
pub fn decode_gzip_keeping<'a>(source: impl Read + Send + 'a, members: &GzipMembers) -> impl Read + Send + 'a {
    let source = BufReader::with_capacity(BUFFER, Uninterrupted(source));
    GzipReader::Before(MemberRecorder::new(source, members.clone()))
}

/// A reader whose reads are made again when a signal interrupts them. A decoder that is interrupted cannot go on, but its callers
/// would read on, as callers of `Read` do.
struct Uninterrupted<R>(R);

impl<R: Read> Read for Uninterrupted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.0.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }
}

/// Returns a reader of the content of a gzip `source`.
///
/// It adds the places and digests of the members that it has read to `notes`.
pub fn decode_gzip_noting<'a>(source: impl Read + Send + 'a, notes: &MemberNotes) -> impl Read + Send + 'a {
    let source = NotedSource::new(BufReader::with_capacity(BUFFER, Uninterrupted(source)), notes.clone());
    NotedContent::new(GzipReader::Before(source), notes.clone())
}

/// A reader of consecutive zstd frames.
struct Frames<R: BufRead>(zstd::Decoder<'static, R>);

impl<R: BufRead> Read for Frames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => Error::corrupt("zstd", "truncated").into(),
            // An error that is not from the operating system is from the decoder.
            _ if error.raw_os_error().is_none() && error.get_ref().is_none_or(|inner| !inner.is::<Error>()) => {
                Error::corrupt("zstd", error.to_string()).into()
            }
            _ => error,
        })
    }
}

/// A reader of consecutive gzip members.
enum GzipReader<R> {
    /// Between two members.
    Before(R),
    /// Inside a member.
    Within(Box<GzDecoder<R>>),
    /// After the last member.
    Done,
    /// After an error, and during a change of state. It never reads like the end.
    Failed,
}

impl<R: MemberSource> Read for GzipReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let mut is_first = matches!(self, GzipReader::Before(_));
        loop {
            match std::mem::replace(self, GzipReader::Failed) {
                GzipReader::Failed => return Err(Error::corrupt("gzip", "read after an error").into()),
                GzipReader::Done => {
                    *self = GzipReader::Done;
                    return Ok(0);
                }
                GzipReader::Before(mut source) => {
                    let start = source.fill_buf()?;
                    if start.is_empty() && !is_first {
                        *self = GzipReader::Done;
                        return Ok(0);
                    }
                    if start.is_empty() {
                        return Err(Error::corrupt("gzip", "truncated").into());
                    }
                    if start[0] == 0 && !is_first {
                        only_zeros(source)?;
                        *self = GzipReader::Done;
                        return Ok(0);
                    }
                    if start[0] != 0x1f {
                        let reason = if is_first { "not gzip" } else { "trailing data after the gzip stream" };
                        return Err(Error::corrupt("gzip", reason).into());
                    }
                    let mut member = Box::new(GzDecoder::new(source));
                    member.get_mut().begin_body();
                    *self = GzipReader::Within(member);
                    is_first = false;
                }
                GzipReader::Within(mut member) => match member.read(buffer) {
                    Ok(0) => {
                        let mut source = member.into_inner();
                        source.end_member();
                        *self = GzipReader::Before(source);
                        is_first = false;
                    }
                    Ok(read) => {
                        *self = GzipReader::Within(member);
                        return Ok(read);
                    }
                    Err(error) => return Err(in_our_words(error)),
                },
            }
        }
    }
}

fn only_zeros(mut source: impl BufRead) -> io::Result<()> {
    loop {
        let rest = source.fill_buf()?;
        if rest.is_empty() {
            return Ok(());
        }
        if rest.iter().any(|&byte| byte != 0) {
            return Err(Error::corrupt("gzip", "trailing data after the gzip stream").into());
        }
        let length = rest.len();
        source.consume(length);
    }
}

fn in_our_words(error: io::Error) -> io::Error {
    if error.get_ref().is_some_and(|inner| inner.is::<Error>()) {
        return error;
    }
    match error.kind() {
        io::ErrorKind::UnexpectedEof => Error::corrupt("gzip", "truncated").into(),
        io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData if error.to_string().contains("checksum") => {
            Error::corrupt("gzip", "checksum mismatch").into()
        }
        io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => Error::corrupt("gzip", "malformed").into(),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn gzip(content: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    fn unzip(bytes: &[u8]) -> Result<Vec<u8>, String> {
        let mut reader = decode(bytes, Encoding::Gzip).unwrap();
        let mut out = Vec::new();
        io::copy(&mut reader, &mut out).map(|_| out).map_err(|error| error.to_string())
    }

    #[test]
    fn every_member_is_read() {
        let two = [gzip(b"one,"), gzip(b""), gzip(b"two")].concat();
        assert_eq!(unzip(&two).unwrap(), b"one,two");
        assert_eq!(unzip(&[&two[..], &[0; 700]].concat()).unwrap(), b"one,two");
    }

    /// A reader that is interrupted before each byte.
    struct Interrupting<'a> {
        bytes: &'a [u8],
        is_due: bool,
    }

    impl Read for Interrupting<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.is_due = !self.is_due;
            if self.is_due {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let length = buffer.len().min(1);
            self.bytes.read(&mut buffer[..length])
        }
    }

    #[test]
    fn a_read_that_is_interrupted_loses_nothing() {
        let zstd = zstd::bulk::compress(b"one,two", 1).unwrap();
        let gzip = [gzip(b"one,"), gzip(b"two")].concat();
        for (bytes, encoding) in [(&gzip[..], Encoding::Gzip), (&zstd, Encoding::Zstd), (b"one,two", Encoding::Plain)] {
            let mut out = Vec::new();
            let interrupting = Interrupting { bytes, is_due: false };
            io::copy(&mut decode(interrupting, encoding).unwrap(), &mut out).unwrap();
            assert_eq!(out, b"one,two", "{encoding:?}");
        }
        let (members, notes) = (GzipMembers::default(), MemberNotes::default());
        let interrupting = || Interrupting { bytes: &gzip, is_due: false };
        let keeping: Box<dyn Read> = Box::new(decode_gzip_keeping(interrupting(), &members));
        for mut reader in [keeping, Box::new(decode_gzip_noting(interrupting(), &notes))] {
            let mut out = Vec::new();
            io::copy(&mut reader, &mut out).unwrap();
            assert_eq!(out, b"one,two");
        }
    }

    #[test]
    fn an_error_is_never_followed_by_an_end() {
        let whole = [gzip(b"one,"), gzip(b"two")].concat();
        for cut in 1..whole.len() {
            let mut reader = decode(&whole[..cut], Encoding::Gzip).unwrap();
            let mut out = Vec::new();
            if io::copy(&mut reader, &mut out).is_err() {
                assert!(reader.read(&mut [0]).is_err(), "cut at {cut}");
            }
        }
    }

    #[test]
    fn what_is_not_whole_is_refused() {
        let whole = gzip(b"content");
        assert_eq!(unzip(&[&whole[..], b"x"].concat()).unwrap_err(), "gzip: trailing data after the gzip stream");
        assert_eq!(unzip(&[&whole[..], b"\0x"].concat()).unwrap_err(), "gzip: trailing data after the gzip stream");
        assert_eq!(unzip(b"plain").unwrap_err(), "gzip: not gzip");
        for cut in 0..whole.len() {
            assert_eq!(unzip(&whole[..cut]).unwrap_err(), "gzip: truncated", "cut at {cut}");
        }
        let mut bad_sum = whole.clone();
        let sum_at = whole.len() - 8;
        bad_sum[sum_at] ^= 1;
        assert!(unzip(&bad_sum).unwrap_err().contains("gzip: "));
    }

    #[test]
    fn zstd_frames_are_all_read() {
        let frames = [zstd::bulk::compress(b"one,", 1).unwrap(), zstd::bulk::compress(b"two", 1).unwrap()].concat();
        let mut out = Vec::new();
        io::copy(&mut decode(&frames[..], Encoding::Zstd).unwrap(), &mut out).unwrap();
        assert_eq!(out, b"one,two");
        let cut = io::copy(&mut decode(&frames[..frames.len() - 1], Encoding::Zstd).unwrap(), &mut io::sink());
        assert_eq!(cut.unwrap_err().to_string(), "zstd: truncated");
        assert_eq!(Encoding::of_bytes(&frames), Encoding::Zstd);
    }
}
