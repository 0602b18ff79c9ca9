//! Small secret files in the data directory and beside it: read whole, and written so that a crash
//! leaves a whole one or none.

use std::{
    fs::{File, OpenOptions},
    io::{self, ErrorKind, Read as _, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
};

use zeroize::Zeroizing;

/// What a file holds, and who may read it.
pub(super) struct Content {
    /// None where it is no text, or more of it than asked for.
    pub(super) text: Option<Zeroizing<String>>,
    pub(super) access: Access,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    OwnerOnly,
    Others,
}

/// Reads a file of at most `max` bytes; none where there is none.
pub(super) fn read(path: &Path, max: usize) -> io::Result<Option<Content>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let others = file.metadata()?.permissions().mode() & 0o077 != 0;
    let access = if others { Access::Others } else { Access::OwnerOnly };
    // The full capacity at once: a string that grows leaves copies behind. One byte more than may
    // be, so that a longer file is seen to be longer.
    let mut text = Zeroizing::new(String::with_capacity(max + 2));
    let text = match file.take(max as u64 + 1).read_to_string(&mut text) {
        Ok(len) => (len <= max).then_some(text),
        Err(error) if error.kind() == ErrorKind::InvalidData => None,
        Err(error) => return Err(error),
    };
    Ok(Some(Content { text, access }))
}

/// Writes a file that its owner alone may read: beside, then renamed.
pub(super) fn write(data_dir: &Path, name: &str, text: &str) -> io::Result<()> {
    let beside = data_dir.join(format!("{name}.new"));
    match std::fs::remove_file(&beside) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&beside, data_dir.join(name))?;
    File::open(data_dir)?.sync_all()
}
