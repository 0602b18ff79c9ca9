//! What a closing store leaves for the next process: how far the index has come, and what of it is
//! in memory only.
//!
//! ```text
//! kept       version (4) · node (2) · entries (8) · segments (4) · segment … · tail's first block (8)
//!            · blocks (4) · time (8) … · rows (4) · row (32) … · crc32 (4)
//! segment    its first block (8) · amendments (4) · amendment …
//! amendment  place (8) · webhook (4) · chunk (4) · what was told (16)
//! ```

use std::{fs, io, path::Path, sync::Arc};

use super::{
    Piece,
    late::{Amendment, Late},
    row::{ROW, Row, Told, u32_at, u64_at},
    segment::{SUFFIX, Segment, damaged},
    tail::Tail,
    times::Times,
};
use crate::id::{DeliveryKey, NodeNo, Place, WebhookNo};

const VERSION: u32 = 1;
const NAME: &str = "kept";

/// What [`take`] found.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) node: NodeNo,
    pub(super) entries: u64,
    pub(super) segments: Vec<Piece>,
    pub(super) tail: Tail,
}

pub(super) fn put<'p>(
    dir: &Path,
    node: NodeNo,
    entries: u64,
    tail: &Tail,
    pieces: impl ExactSizeIterator<Item = &'p Piece>,
) -> io::Result<()> {
    let mut out = Vec::with_capacity(1024 + tail.rows.len() * ROW + tail.times.at.len() * 8);
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&node.0.to_le_bytes());
    out.extend_from_slice(&entries.to_le_bytes());
    put_count(&mut out, pieces.len());
    for Piece { segment, late } in pieces {
        out.extend_from_slice(&segment.times.first.to_le_bytes());
        put_count(&mut out, late.len());
        for (key, Amendment { chunk, told }) in late.iter() {
            out.extend_from_slice(&key.place.as_u64().to_le_bytes());
            out.extend_from_slice(&key.webhook.0.to_le_bytes());
            out.extend_from_slice(&chunk.to_le_bytes());
            told.put(&mut out, 0);
        }
    }
    out.extend_from_slice(&tail.times.first.to_le_bytes());
    put_count(&mut out, tail.times.at.len());
    tail.times.at.iter().for_each(|at| out.extend_from_slice(&at.to_le_bytes()));
    put_count(&mut out, tail.rows.len());
    tail.rows.iter().for_each(|row| row.put(&mut out));
    let crc = crc32fast::hash(&out);
    out.extend_from_slice(&crc.to_le_bytes());
    let beside = dir.join(NAME).with_extension("new");
    fs::write(&beside, &out)?;
    fs::rename(beside, dir.join(NAME))
}

/// Reads what was put and takes it away: it is about the files as they are now. None where there is
/// none.
pub(super) fn take(dir: &Path) -> io::Result<Option<Kept>> {
    let path = dir.join(NAME);
    let bytes = match fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        bytes => bytes?,
    };
    fs::remove_file(&path)?;
    let (body, crc) = bytes.split_last_chunk::<4>().ok_or_else(damaged)?;
    if crc32fast::hash(body) != u32::from_le_bytes(*crc) {
        return Err(damaged());
    }
    read(dir, &mut Fields(body)).map(Some)
}

fn read(dir: &Path, fields: &mut Fields<'_>) -> io::Result<Kept> {
    if fields.u32()? != VERSION {
        return Err(damaged());
    }
    let node = NodeNo(u16::from_le_bytes(*fields.take::<2>()?));
    let entries = fields.u64()?;
    let mut segments = Vec::new();
    for _ in 0..fields.u32()? {
        segments.push(read_piece(dir, fields)?);
    }
    let first = fields.u64()?;
    let mut times = Times::starting_at(first);
    for _ in 0..fields.u32()? {
        times.at.push(fields.u64()?);
    }
    let mut rows = Vec::new();
    for _ in 0..fields.u32()? {
        rows.push(Row::read(fields.take::<ROW>()?).ok_or_else(damaged)?);
    }
    let ends = segments.iter().map(|piece: &Piece| piece.segment.times.blocks().end);
    let starts = segments.iter().skip(1).map(|piece| piece.segment.times.first);
    if !ends.eq(starts.chain(segments.last().map(|_| first))) {
        return Err(damaged());
    }
    Ok(Kept { node, entries, segments, tail: Tail::of(times, rows) })
}

fn read_piece(dir: &Path, fields: &mut Fields<'_>) -> io::Result<Piece> {
    let segment = Segment::open(Segment::path(dir, fields.u64()?))?;
    let mut late = Late::default();
    for _ in 0..fields.u32()? {
        let place = Place::from_u64(fields.u64()?);
        let webhook = WebhookNo(fields.u32()?);
        let chunk = fields.u32()?;
        if chunk as usize >= segment.chunks() {
            return Err(damaged());
        }
        let told = Told::read(fields.take()?);
        late.put(DeliveryKey { place, webhook }, Amendment { chunk, told });
    }
    Ok(Piece { segment: Arc::new(segment), late })
}

/// Removes every file of the index.
pub(super) fn clear(dir: &Path) -> io::Result<()> {
    for file in fs::read_dir(dir)? {
        let path = file?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name == NAME || name.ends_with(SUFFIX) || name.ends_with(".new") {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

fn put_count(out: &mut Vec<u8>, count: usize) {
    let count = u32::try_from(count).expect("what is kept in memory is bounded far below 2^32");
    out.extend_from_slice(&count.to_le_bytes());
}

/// What is left to be read.
struct Fields<'b>(&'b [u8]);

impl<'b> Fields<'b> {
    fn take<const N: usize>(&mut self) -> io::Result<&'b [u8; N]> {
        let (taken, rest) = self.0.split_first_chunk().ok_or_else(damaged)?;
        self.0 = rest;
        Ok(taken)
    }

    fn u32(&mut self) -> io::Result<u32> {
        Ok(u32_at(self.take::<4>()?, 0))
    }

    fn u64(&mut self) -> io::Result<u64> {
        Ok(u64_at(self.take::<8>()?, 0))
    }
}
