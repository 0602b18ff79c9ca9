//! The rows of a stretch of the event log, in a file of their own.
//!
//! ```text
//! chunks    rows in the order of tenant, webhook, place; 256 in each chunk, fewer in the last
//! table     of each chunk: tenant (4) · webhook (4) · place (8) of its first row · mask (8)
//!           · first and last block, from the segment's first (4, 4) · crc32 (4)
//! times     of each block: accepted-at (8)
//! foot      first block (8) · blocks (4) · rows (4) · crc32 of the table and the times (4)
//!           · version (4) · crc32 of the foot so far (4)
//! ```
//!
//! The table and the times stay in memory: some 40 bytes for 256 rows and 8 for each block. So a
//! search reads only chunks that may hold what is wanted.
//!
//! A file is never changed. A segment that has become old-fashioned is written anew beside it and
//! takes its name. Nothing is synced: what a power cut leaves fails its checksum, and then the
//! index is made anew.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write as _},
    ops::Range,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use super::{
    late::Late,
    row::{Mask, Order, ROW, Row, u32_at, u64_at},
    search::Hits,
    times::Times,
};
use crate::id::{DeliveryKey, Place, TenantNo, WebhookNo};

const VERSION: u32 = 1;

/// Rows in a chunk.
pub(super) const CHUNK: usize = if cfg!(test) { 4 } else { 256 };

/// Bytes handed to the kernel at a time.
const BUFFER: usize = 256 << 10;

const ENTRY: usize = 36;
const FOOT: usize = 28;

/// What the files of segments end in.
pub(super) const SUFFIX: &str = ".rows";

#[derive(Debug)]
pub(super) struct Segment {
    path: PathBuf,
    file: File,
    pub(super) times: Times,
    rows: usize,
    chunks: Vec<Chunk>,
}

/// What is known of a chunk without reading it.
#[derive(Clone, Copy, Debug)]
struct Chunk {
    first: Order,
    mask: Mask,
    /// First and last block of its rows, from the segment's first.
    blocks: (u32, u32),
    crc: u32,
}

impl Segment {
    /// Writes rows in any order; they are about the blocks of `times`.
    pub(super) fn write(dir: &Path, times: Times, rows: &mut [Row]) -> io::Result<Self> {
        rows.sort_unstable_by_key(|row| row.order().as_u128());
        let path = Self::path(dir, times.first);
        let beside = path.with_extension("new");
        // Piece by piece: memory for all of it would be cleared by the kernel each time.
        let mut out = BufWriter::with_capacity(BUFFER, File::create(&beside)?);
        let mut chunks = Vec::with_capacity(rows.len().div_ceil(CHUNK));
        let mut piece = Vec::with_capacity(CHUNK * ROW);
        for rows in rows.chunks(CHUNK) {
            piece.clear();
            rows.iter().for_each(|row| row.put(&mut piece));
            chunks.push(Chunk::of(rows, times.first, crc32fast::hash(&piece)));
            out.write_all(&piece)?;
        }
        let mut table = Vec::with_capacity(chunks.len() * ENTRY + times.at.len() * 8 + FOOT);
        chunks.iter().for_each(|chunk| chunk.put(&mut table));
        times.at.iter().for_each(|at| table.extend_from_slice(&at.to_le_bytes()));
        let crc = crc32fast::hash(&table);
        put_foot(&mut table, &times, rows.len(), crc);
        out.write_all(&table)?;
        out.flush()?;
        fs::rename(&beside, &path)?;
        let file = File::open(&path)?;
        Ok(Self { path, file, times, rows: rows.len(), chunks })
    }

    /// The file of the segment that begins with this block.
    pub(super) fn path(dir: &Path, first: u64) -> PathBuf {
        dir.join(format!("{first:016x}{SUFFIX}"))
    }

    /// Opens a file that was written before.
    pub(super) fn open(path: PathBuf) -> io::Result<Self> {
        let file = File::open(&path)?;
        let foot_at = file.metadata()?.len().checked_sub(FOOT as u64).ok_or_else(damaged)?;
        let mut foot = [0; FOOT];
        file.read_exact_at(&mut foot, foot_at)?;
        if u32_at(&foot, 20) != VERSION || u32_at(&foot, 24) != crc32fast::hash(&foot[..24]) {
            return Err(damaged());
        }
        let (first, blocks) = (u64_at(&foot, 0), u32_at(&foot, 8) as usize);
        let rows = u32_at(&foot, 12) as usize;
        let table_len = rows.div_ceil(CHUNK) * ENTRY;
        if foot_at != (rows * ROW + table_len + blocks * 8) as u64 {
            return Err(damaged());
        }
        let mut kept = vec![0; table_len + blocks * 8];
        file.read_exact_at(&mut kept, (rows * ROW) as u64)?;
        if crc32fast::hash(&kept) != u32_at(&foot, 16) {
            return Err(damaged());
        }
        let (table, at) = kept.split_at(table_len);
        let chunks = table.chunks_exact(ENTRY).map(Chunk::read).collect();
        let times = Times { first, at: at.chunks_exact(8).map(|at| u64_at(at, 0)).collect() };
        Ok(Self { path, file, times, rows, chunks })
    }

    pub(super) fn len(&self) -> usize {
        self.rows
    }

    pub(super) fn chunks(&self) -> usize {
        self.chunks.len()
    }

    /// Of the blocks that are kept those that may have something to offer; none where it is later or
    /// earlier than what is looked for.
    pub(super) fn wanted(&self, kept: &Range<u64>, hits: &Hits<'_>) -> Range<u64> {
        let within = self.times.within(hits.search.since, hits.search.until);
        let blocks = within.start.max(kept.start)..within.end.min(kept.end);
        if hits.may_take(&blocks) { blocks } else { 0..0 }
    }

    /// Offers what is wanted of the blocks that are kept; gives how many chunks it read.
    pub(super) fn search(
        &self,
        late: &Late,
        kept: &Range<u64>,
        hits: &mut Hits<'_>,
    ) -> io::Result<usize> {
        let blocks = self.wanted(kept, hits);
        if blocks.is_empty() {
            return Ok(0);
        }
        let (first, last) = hits.search.bounds();
        let start = self.chunks.partition_point(|chunk| chunk.first <= first).saturating_sub(1);
        let end = self.chunks.partition_point(|chunk| chunk.first <= last);
        let mut read = 0;
        let mut buffer = Vec::new();
        for at in start..end {
            let chunk = &self.chunks[at];
            let about = chunk.blocks_from(self.times.first);
            let about = about.start.max(blocks.start)..about.end.min(blocks.end);
            let mask = chunk.mask.or(late.mask(at));
            if about.is_empty() || !hits.search.may_want(mask) || !hits.may_take(&about) {
                continue;
            }
            read += 1;
            let is_amended = late.mask(at) != Mask::default();
            for bytes in self.read_chunk(at, &mut buffer)?.as_chunks::<ROW>().0 {
                let mut row = Row::read(bytes).ok_or_else(damaged)?;
                let block = row.key.place.block();
                if !blocks.contains(&block) || !hits.search.is_about(&row) {
                    continue;
                }
                if is_amended {
                    late.amend(&mut row);
                }
                if hits.search.wants(&row) {
                    hits.offer(&row, self.times.of(block).unwrap_or(0));
                }
            }
        }
        Ok(read)
    }

    /// The chunk in which the delivery has its row, if it has one.
    pub(super) fn chunk_of(&self, tenant: TenantNo, key: DeliveryKey) -> u32 {
        let order = Order { tenant, webhook: key.webhook, place: key.place };
        let behind = self.chunks.partition_point(|chunk| chunk.first <= order);
        behind.saturating_sub(1) as u32
    }

    /// Writes it anew with what became known since.
    pub(super) fn amended(&self, late: &Late) -> io::Result<Self> {
        let mut rows = Vec::with_capacity(self.rows);
        let mut buffer = Vec::new();
        for at in 0..self.chunks.len() {
            for bytes in self.read_chunk(at, &mut buffer)?.as_chunks::<ROW>().0 {
                let mut row = Row::read(bytes).ok_or_else(damaged)?;
                late.amend(&mut row);
                rows.push(row);
            }
        }
        let dir = self.path.parent().ok_or_else(damaged)?;
        Self::write(dir, self.times.clone(), &mut rows)
    }

    pub(super) fn remove(&self) -> io::Result<()> {
        fs::remove_file(&self.path)
    }

    fn read_chunk<'b>(&self, at: usize, buffer: &'b mut Vec<u8>) -> io::Result<&'b [u8]> {
        let rows = CHUNK.min(self.rows - at * CHUNK);
        buffer.resize(rows * ROW, 0);
        self.file.read_exact_at(buffer, (at * CHUNK * ROW) as u64)?;
        if crc32fast::hash(buffer) != self.chunks[at].crc {
            return Err(damaged());
        }
        Ok(buffer)
    }
}

impl Chunk {
    fn of(rows: &[Row], first_block: u64, crc: u32) -> Self {
        let blocks = rows.iter().map(|row| (row.key.place.block() - first_block) as u32);
        let (low, high) = (blocks.clone().min(), blocks.max());
        Self {
            first: rows[0].order(),
            mask: rows.iter().fold(Mask::default(), |mask, row| mask.or(row.mask())),
            blocks: (low.unwrap_or(0), high.unwrap_or(0)),
            crc,
        }
    }

    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.first.tenant.0.to_le_bytes());
        out.extend_from_slice(&self.first.webhook.0.to_le_bytes());
        out.extend_from_slice(&self.first.place.as_u64().to_le_bytes());
        out.extend_from_slice(&self.mask.0.to_le_bytes());
        out.extend_from_slice(&self.blocks.0.to_le_bytes());
        out.extend_from_slice(&self.blocks.1.to_le_bytes());
        out.extend_from_slice(&self.crc.to_le_bytes());
    }

    fn read(bytes: &[u8]) -> Self {
        let first = Order {
            tenant: TenantNo(u32_at(bytes, 0)),
            webhook: WebhookNo(u32_at(bytes, 4)),
            place: Place::from_u64(u64_at(bytes, 8)),
        };
        let blocks = (u32_at(bytes, 24), u32_at(bytes, 28));
        Self { first, mask: Mask(u64_at(bytes, 16)), blocks, crc: u32_at(bytes, 32) }
    }

    fn blocks_from(&self, first: u64) -> Range<u64> {
        first + u64::from(self.blocks.0)..first + u64::from(self.blocks.1) + 1
    }
}

fn put_foot(out: &mut Vec<u8>, times: &Times, rows: usize, crc: u32) {
    let start = out.len();
    let narrow = |count: usize| u32::try_from(count).expect("a segment is far below 2^32 rows");
    out.extend_from_slice(&times.first.to_le_bytes());
    for field in [narrow(times.at.len()), narrow(rows), crc, VERSION] {
        out.extend_from_slice(&field.to_le_bytes());
    }
    let crc = crc32fast::hash(&out[start..]);
    out.extend_from_slice(&crc.to_le_bytes());
}

pub(super) fn damaged() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a file of the index is not as it was written")
}
