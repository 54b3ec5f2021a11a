//! Opening and creating layouts.

use super::{INDEX_FILE, LAYOUT_FILE, LOCK_FILE, Layout, LayoutLocking};
use crate::common::digest::Algorithm;
use crate::common::directory_lock::DirectoryLock;
use crate::common::error::{Error, ErrorKind, Result};
use crate::common::json;
use crate::common::root::{Root, WriteCheck, is_temporary_name};
use crate::spec::Index;
use std::io;
use std::path::Path;
use std::sync::Mutex;

pub(super) const VERSION_DOCUMENT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

impl Layout {
    /// Opens an existing layout. Write access is not needed.
    ///
    /// # Errors
    /// Fails if the directory is not an image layout of version 1.0.0.
    pub fn open(path: &Path) -> Result<Layout> {
        Layout::open_locking(path, LayoutLocking::default())
    }

    /// Opens a layout, and creates it if it does not exist.
    ///
    /// # Errors
    /// Fails if the directory contains anything but an image layout, its index cannot be read, or it cannot be written.
    pub fn create(path: &Path) -> Result<Layout> {
        Layout::create_locking(path, LayoutLocking::default())
    }

    /// Opens or creates a layout as [`Layout::create`] does, with the given locking.
    ///
    /// # Errors
    /// Fails as [`Layout::create`] does.
    pub fn create_locking(path: &Path, locking: LayoutLocking) -> Result<Layout> {
        let layout = Layout::at(Root::create(path)?, locking);
        if !layout.has_mark()? {
            // Checked before the lock file is created, so that a directory of other content stays unchanged.
            layout.check_empty()?;
            let _guard = layout.lock()?;
            if !layout.has_mark()? {
                layout.check_empty()?;
                layout.initialise()?;
            }
        }
        layout.check_version()?;
        layout.index()?;
        layout.lock_for_writing()
    }

    /// Opens an existing layout in order to change it.
    ///
    /// # Errors
    /// Fails as [`Layout::open`] does, and if the layout is locked or cannot be written.
    pub fn open_to_change(path: &Path, locking: LayoutLocking) -> Result<Layout> {
        Layout::open_locking(path, locking)?.lock_for_writing()
    }

    /// Opens an existing layout as [`Layout::open`] does, with the given locking.
    ///
    /// # Errors
    /// Fails as [`Layout::open`] does.
    pub fn open_locking(path: &Path, locking: LayoutLocking) -> Result<Layout> {
        let layout = Layout::at(Root::open(path)?, locking);
        layout.check_version()?;
        Ok(layout)
    }

    /// Removes what killed processes left, and keeps garbage collections out as long as the layout is open.
    fn lock_for_writing(mut self) -> Result<Layout> {
        if let LayoutLocking::WaitFor(timeout) = self.locking {
            let locked = || {
                Error::new(ErrorKind::Locked, self.display(), "`ocibuild gc` is removing blobs from it")
                    .hint(format!("waited {} s; see --lock-timeout", timeout.as_secs()))
            };
            // A collection that waits for writers holds the lock of the layout itself, so that no further ones begin.
            let _entry = DirectoryLock::shared_within(timeout, &self.root)?.ok_or_else(locked)?;
            let lock = DirectoryLock::shared_within(timeout, &self.root.create_directory("blobs")?)?;
            self.writing = Some(lock.ok_or_else(locked)?);
        }
        self.root.sweep_temporaries();
        self.blob_directory(Algorithm::Sha256)?.sweep_temporaries();
        Ok(self)
    }

    fn at(root: Root, locking: LayoutLocking) -> Layout {
        Layout {
            root,
            locking,
            known: Mutex::default(),
            verification_cache: None,
            writing: None,
            check: WriteCheck::default(),
        }
    }

    /// Returns whether `oci-layout` exists.
    fn has_mark(&self) -> Result<bool> {
        match self.root.dir().symlink_metadata(LAYOUT_FILE) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(Error::io(self.root.display(LAYOUT_FILE), "read", error)),
        }
    }

    /// Checks that the directory is empty, except for files of a `create` that was killed.
    fn check_empty(&self) -> Result<()> {
        let not_a_layout =
            || Error::invalid(self.display(), "not an OCI layout, and not empty").hint("choose another directory");
        let entries = self.root.dir().entries().map_err(|error| Error::io(self.display(), "read", error))?;
        for entry in entries {
            let name = entry.map_err(|error| Error::io(self.display(), "read", error))?.file_name();
            let is_ours = match name.to_str() {
                // Another process has created it in the meantime.
                Some(LOCK_FILE | LAYOUT_FILE) => true,
                Some(INDEX_FILE) => self.index_bytes()? == Index::empty().to_bytes(),
                Some("blobs") => self.holds_no_blob()?,
                Some(name) => is_temporary_name(name.as_ref()),
                None => false,
            };
            if !is_ours {
                let lost_its_mark = matches!(name.to_str(), Some(INDEX_FILE | "blobs"));
                return Err(if lost_its_mark {
                    Error::invalid(self.display(), format!("not an OCI layout: `{LAYOUT_FILE}` is missing"))
                } else {
                    not_a_layout()
                });
            }
        }
        Ok(())
    }

    fn holds_no_blob(&self) -> Result<bool> {
        let blobs = self.root.directory("blobs")?;
        let only = |root: &Root, allowed: &dyn Fn(&str) -> bool| -> Result<bool> {
            let entries = root.dir().entries().map_err(|error| Error::io(root.path().display(), "read", error))?;
            for entry in entries {
                let name = entry.map_err(|error| Error::io(root.path().display(), "read", error))?.file_name();
                if !name.to_str().is_some_and(allowed) {
                    return Ok(false);
                }
            }
            Ok(true)
        };
        if !only(&blobs, &|name| name == "sha256")? {
            return Ok(false);
        }
        match blobs.directory("sha256") {
            Ok(directory) => only(&directory, &|name| is_temporary_name(name.as_ref())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(true),
            Err(error) => Err(error),
        }
    }

    fn initialise(&self) -> Result<()> {
        self.blob_directory(Algorithm::Sha256)?.sync()?;
        self.root.replace_file(INDEX_FILE, &Index::empty().to_bytes())?;
        self.root.replace_file(LAYOUT_FILE, VERSION_DOCUMENT)
    }

    fn check_version(&self) -> Result<()> {
        let object = self.root.display(LAYOUT_FILE);
        let not_a_layout = |reason: &str| Error::invalid(self.display(), format!("not an OCI layout: {reason}"));
        let document = match self.document(LAYOUT_FILE, 64 << 10) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Err(not_a_layout("`oci-layout` is missing")),
            read => read?,
        };
        check_version_document(&document, &object).map_err(|error| not_a_layout(&error.to_string()))
    }
}

/// Checks that the layout has version 1.0.0.
pub(in crate::store) fn check_version_document(bytes: &[u8], object: &str) -> Result<()> {
    let document = json::parse(bytes, json::DOCUMENT_DEPTH, object)?;
    match json::string_at(&document, "imageLayoutVersion", object)? {
        Some("1.0.0") => Ok(()),
        Some(other) => Err(Error::invalid(object, format!("unsupported layout version {other}, expected 1.0.0"))),
        None => Err(Error::invalid(object, "has no layout version")),
    }
}
