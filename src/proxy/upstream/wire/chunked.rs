//! The chunked transfer encoding (RFC 9112 section 7.1), read in whatever pieces it comes. Pure.
//!
//! Extensions mean nothing here and are passed over, within a limit. Line ends are CR LF and nothing else: a lone LF is
//! read differently by different programs, which is what smuggling lives on.

use super::{MAX_FIELDS, Malformed, Piece, take};
use bytes::{Buf, BytesMut};
use http::header::{HeaderMap, HeaderName, HeaderValue};

/// Most bytes of extensions in a whole body. Nobody sends any.
const MAX_EXTENSIONS: u32 = 16 * 1024;
/// Most bytes of trailers.
const MAX_TRAILERS: usize = 16 * 1024;
/// Digits of the largest size.
const MAX_DIGITS: u8 = 16;

/// How far a body in chunks was read.
#[derive(Debug, Default)]
pub(super) struct Chunks {
    at: At,
    /// Size of the chunk, or what is left of it.
    left: u64,
    digits: u8,
    extensions: u32,
    trailers: Vec<u8>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum At {
    /// In the digits of a size.
    #[default]
    Size,
    /// In blanks behind a size.
    Blank,
    Extension,
    /// Before the LF of a size's line.
    SizeEnd,
    Data,
    /// Before the CR and the LF behind a chunk.
    DataCr,
    DataLf,
    Trailers,
    End,
}

impl Chunks {
    pub(super) fn is_over(&self) -> bool {
        self.at == At::End
    }

    /// Takes the next piece off `input`; `None` when more has to be read first.
    pub(super) fn next(&mut self, input: &mut BytesMut) -> Result<Option<Piece>, Malformed> {
        loop {
            match self.at {
                At::End => return Ok(Some(Piece::End)),
                At::Data => {
                    let data = take(input, &mut self.left);
                    if self.left == 0 {
                        self.at = At::DataCr;
                    }
                    return Ok(data.map(Piece::Data));
                }
                _ => {
                    let Some(byte) = input.first().copied() else { return Ok(None) };
                    input.advance(1);
                    self.at = self.step(byte)?;
                    if self.at == At::End && !self.trailers.is_empty() {
                        return self.parse_trailers().map(|trailers| Some(Piece::Trailers(trailers)));
                    }
                }
            }
        }
    }

    /// What comes after one byte outside the data.
    fn step(&mut self, byte: u8) -> Result<At, Malformed> {
        match (self.at, byte) {
            (At::Size, _) if byte.is_ascii_hexdigit() => self.digit(byte),
            (At::Size | At::Blank, b' ' | b'\t') if self.digits > 0 => self.pass_over(At::Blank),
            (At::Size | At::Blank, b';') if self.digits > 0 => Ok(At::Extension),
            (At::Size | At::Blank, b'\r') if self.digits > 0 => Ok(At::SizeEnd),
            (At::Extension, b'\r') => Ok(At::SizeEnd),
            (At::Extension, b'\n') => Err(Malformed::Chunk),
            (At::Extension, _) => self.pass_over(At::Extension),
            (At::SizeEnd, b'\n') => {
                self.digits = 0;
                Ok(if self.left == 0 { At::Trailers } else { At::Data })
            }
            (At::DataCr, b'\r') => Ok(At::DataLf),
            (At::DataLf, b'\n') => Ok(At::Size),
            (At::Trailers, _) => self.trailer(byte),
            _ => Err(Malformed::Chunk),
        }
    }

    fn digit(&mut self, byte: u8) -> Result<At, Malformed> {
        let digit = char::from(byte).to_digit(16).ok_or(Malformed::Chunk)?;
        self.digits += 1;
        // Leading zeros may make a size longer without making it larger; nobody needs more than all digits.
        if self.digits > MAX_DIGITS {
            return Err(Malformed::Chunk);
        }
        self.left =
            self.left.checked_mul(16).and_then(|size| size.checked_add(digit.into())).ok_or(Malformed::Chunk)?;
        Ok(At::Size)
    }

    fn pass_over(&mut self, next: At) -> Result<At, Malformed> {
        self.extensions += 1;
        if self.extensions > MAX_EXTENSIONS { Err(Malformed::BesideChunks) } else { Ok(next) }
    }

    fn trailer(&mut self, byte: u8) -> Result<At, Malformed> {
        if (byte == b'\n') != (self.trailers.last() == Some(&b'\r')) {
            return Err(Malformed::Chunk);
        }
        self.trailers.push(byte);
        if self.trailers == b"\r\n" {
            self.trailers.clear();
            return Ok(At::End);
        }
        if self.trailers.len() > MAX_TRAILERS {
            return Err(Malformed::BesideChunks);
        }
        Ok(if self.trailers.ends_with(b"\r\n\r\n") { At::End } else { At::Trailers })
    }

    fn parse_trailers(&mut self) -> Result<HeaderMap, Malformed> {
        let lines = std::mem::take(&mut self.trailers);
        let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
        let httparse::Status::Complete((_, fields)) = httparse::parse_headers(&lines, &mut fields)? else {
            return Err(Malformed::Chunk);
        };
        let mut trailers = HeaderMap::with_capacity(fields.len());
        for field in fields {
            let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| Malformed::Field)?;
            let value = HeaderValue::from_bytes(field.value).map_err(|_| Malformed::Field)?;
            trailers.append(name, value);
        }
        Ok(trailers)
    }
}
