//! A disk of a test's own: ext4 on a loop device, in a mount namespace that ends with the test.
//!
//! The power of such a disk can be cut (`EXT4_IOC_SHUTDOWN` without a flush of its journal): what
//! lies in the kernel's memory alone is gone, every later write and sync fails, and the next mount
//! finds what a machine finds when its power is back. What this does not show is a drive that lies
//! about its own cache: below the file system nothing is lost.

use std::{
    fs::File,
    io::Write as _,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use super::namespace::must;

/// `EXT4_IOC_SHUTDOWN`, and its way that does not flush the log first. An `ioctl` takes `unsafe` in
/// Rust, and perl is on every machine that has ext4's tools.
const CUT: &str = "open(my $file, '<', $ARGV[0]) or die $!; my $how = pack('L', 2); \
                   defined(ioctl($file, 0x8004587D, $how)) or die $!;";

pub struct Disk {
    // Removed once the drop has unmounted what is on it.
    directory: tempfile::TempDir,
    /// Whether the image lies on a small memory file system of its own: see [`Disk::thin`].
    is_thin: bool,
}

impl Disk {
    pub fn new(mib: u32) -> Self {
        let disk = Self { directory: directory(), is_thin: false };
        disk.format(mib);
        disk.mount();
        disk
    }

    /// A volume that promises more than is behind it. What is free on it has no memory; where
    /// [`Disk::starve`] has taken what there is, writes of data fail below the file system, after
    /// `write` has taken them: the kernel tells whoever syncs, once.
    pub fn thin(mib: u32) -> Self {
        let disk = Self { directory: directory(), is_thin: true };
        let size = format!("size={}m", mib + 16);
        must("mount", &["-t", "tmpfs", "-o", &size, "none", path(&disk.below())]);
        disk.format(mib);
        // The journal and the tables keep what they need …
        must("fallocate", &["-l", &format!("{mib}M"), path(&disk.image())]);
        disk.mount();
        // … and each page is written by itself: of a longer piece that finds room for its beginning
        // only, the loop device says that all of it was written.
        let devices = std::fs::read_dir("/sys/block").expect("Linux has it").flatten();
        let ours = devices.map(|device| device.path()).find(|device| {
            let backing = std::fs::read_to_string(device.join("loop/backing_file"));
            backing.is_ok_and(|backing| Path::new(backing.trim_end()) == disk.image())
        });
        let limit = ours.expect("it is mounted").join("queue/max_sectors_kb");
        std::fs::write(limit, "4").expect("root may set it");
        disk
    }

    /// Nothing is left for what is written from now on where nothing was before.
    pub fn starve(&self) {
        must("fstrim", &[path(&self.top())]);
        let mut file = File::create(self.below().join("filler")).expect("room for a name");
        while file.write_all(&[1; 4096]).is_ok() {}
    }

    pub fn feed(&self) {
        std::fs::remove_file(self.below().join("filler")).expect("it was starved");
    }

    pub fn data(&self) -> PathBuf {
        self.top().join("data")
    }

    /// Where the file system begins.
    pub fn top(&self) -> PathBuf {
        self.directory.path().join("top")
    }

    /// Where the image lies, on the machine's own disk unless it is thin.
    pub fn below(&self) -> PathBuf {
        self.directory.path().join("below")
    }

    fn image(&self) -> PathBuf {
        self.below().join("image")
    }

    /// From here on nothing reaches it.
    pub fn cut(&self) {
        let some_file = self.top().join("switch");
        must("perl", &["-e", CUT, path(&some_file)]);
    }

    /// The power is back. Nobody may have a file open on it.
    pub fn restore(&self) {
        must("umount", &[path(&self.top())]);
        self.mount();
    }

    /// A new file system in place of this one.
    pub fn replace(&self, mib: u32) {
        must("umount", &[path(&self.top())]);
        self.format(mib);
        self.mount();
    }

    fn format(&self, mib: u32) {
        let file = File::create(self.image()).expect("ours");
        file.set_len(u64::from(mib) << 20).expect("it has no size yet");
        must("mkfs.ext4", &["-q", "-F", "-b", "4096", path(&self.image())]);
    }

    fn mount(&self) {
        // The loop device goes with the mount.
        must("mount", &["-o", "loop", path(&self.image()), path(&self.top())]);
        let switch = File::create(self.top().join("switch")).expect("it is mounted");
        switch.sync_all().expect("it works");
    }
}

fn directory() -> tempfile::TempDir {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    for part in ["top", "below"] {
        std::fs::create_dir(directory.path().join(part)).expect("ours");
    }
    directory
}

fn path(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

impl Drop for Disk {
    fn drop(&mut self) {
        must("umount", &["--lazy", path(&self.top())]);
        if self.is_thin {
            must("umount", &["--lazy", path(&self.below())]);
        }
    }
}

/// The disk's blocks that all files of a directory have, and their lengths.
pub fn taken_mib(dir: &Path) -> (u64, u64) {
    fn sum(dir: &Path) -> (u64, u64) {
        let entries = std::fs::read_dir(dir).expect("a directory").flatten();
        // What is gone by now takes nothing.
        let size = |entry: std::fs::DirEntry| match entry.metadata() {
            Ok(found) if found.is_dir() => sum(&entry.path()),
            Ok(found) => (found.blocks() * 512, found.len()),
            Err(_) => (0, 0),
        };
        entries.map(size).fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
    }
    let (blocks, length) = sum(dir);
    (blocks >> 20, length >> 20)
}
