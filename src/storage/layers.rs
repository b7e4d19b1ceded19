//! The directory layout that all drivers share:
//!
//!     layers/<chain>/diff    the layer's tree     layers/<chain>/aside  see `Staging::aside`
//!     rw/<id>/…              writable layers      staging/<random>/…    not yet or no longer there
//!
//! Invariant: a name below `layers` or `rw` is complete; everything comes in by
//! one rename from `staging` and leaves by one rename back into it, so a kill at
//! any moment leaves litter in `staging` only, which start-up removes.

use super::{Staging, Whiteouts, owners, tree};
use crate::error::{Context, Result};
use crate::util::id;
use crate::util::thread;
use nix::mount::{MntFlags, umount2};
use std::ffi::CString;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

#[derive(Debug, Clone)]
pub struct Layers {
    pub root: PathBuf,
}

/// An existing directory is fine. 0711 as containers with other ids may have to
/// pass through it.
pub(super) fn make_dir(path: &Path) -> Result<()> {
    match DirBuilder::new().mode(0o711).create(path) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other.with_context(|| format!("mkdir {}", path.display())),
    }
}

impl Layers {
    pub fn open(root: &Path) -> Result<Self> {
        fs::create_dir_all(root).with_context(|| format!("mkdir {}", root.display()))?;
        for name in ["layers", "rw", "staging", "empty"] {
            make_dir(&root.join(name))?;
        }
        Ok(Self { root: root.to_owned() })
    }

    pub fn layer(&self, chain_id: &str) -> PathBuf {
        self.root.join("layers").join(chain_id)
    }
    pub fn rw(&self, id: &str) -> PathBuf {
        self.root.join("rw").join(id)
    }
    pub fn empty(&self) -> PathBuf {
        self.root.join("empty")
    }
    pub fn has(&self, chain_id: &str) -> bool {
        self.layer(chain_id).join("diff").is_dir()
    }
    pub fn diff(&self, chain_id: &str) -> Result<File> {
        let path = self.layer(chain_id).join("diff");
        File::open(&path).with_context(|| format!("open {}", path.display()))
    }
    pub fn aside(&self, chain_id: &str) -> Result<File> {
        let path = self.layer(chain_id).join("aside");
        File::open(&path).with_context(|| format!("open {}", path.display()))
    }

    /// A fresh directory in `staging`.
    pub fn staging_dir(&self) -> Result<PathBuf> {
        let path = self.root.join("staging").join(&id::random()[..16]);
        make_dir(&path)?;
        Ok(path)
    }

    pub fn stage(&self, whiteouts: Whiteouts) -> Result<Box<Staged>> {
        let path = self.staging_dir()?;
        let mut staged = Staged { layers: self.clone(), path, open: None, whiteouts, committed: false };
        let (diff, aside) = (staged.path.join("diff"), staged.path.join("aside"));
        DirBuilder::new().mode(0o755).create(&diff).with_context(|| format!("mkdir {}", diff.display()))?;
        DirBuilder::new().mode(0o700).create(&aside).with_context(|| format!("mkdir {}", aside.display()))?;
        // The layer's root directory is 0755 whatever the umask.
        fs::set_permissions(&diff, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        staged.open = Some((File::open(&diff)?, File::open(&aside)?));
        Ok(Box::new(staged))
    }

    /// Takes `path` (below this root) away in one step, then removes it. Who waits
    /// for the answer waits for a moment only: the rest of a big tree goes in a
    /// thread of its own, or at the next start.
    pub fn discard(&self, path: &Path) -> Result<()> {
        let doomed = self.root.join("staging").join(format!("rm-{}", &id::random()[..16]));
        match fs::rename(path, &doomed) {
            Ok(()) => {
                if !remove_for(&doomed, Some(PATIENCE))? {
                    in_background(vec![doomed]);
                }
                Ok(())
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(e).with_context(|| format!("remove {}", path.display())),
        }
    }

    /// Removes a layer, and the copies of it with other owners first: none is
    /// ever without what it is named after.
    pub fn remove(&self, chain_id: &str) -> Result<()> {
        for name in self.list()?.1.iter().filter(|name| owners::original(name) == Some(chain_id)) {
            self.discard(&self.layer(name))?;
        }
        self.discard(&self.layer(chain_id))
    }

    pub fn clean_up(&self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let mut left = Vec::new();
        for entry in fs::read_dir(self.root.join("staging"))? {
            let path = entry?.path();
            // A mount that was to be there for an instant lives on with the
            // spawner's namespace: what is below it is a container's.
            let _ = umount2(&path, MntFlags::MNT_DETACH);
            if !remove_for(&path, Some(deadline.saturating_duration_since(Instant::now())))? {
                left.push(path);
            }
        }
        if !left.is_empty() {
            in_background(left);
        }
        Ok(())
    }

    /// rw ids and chain IDs.
    pub fn list(&self) -> Result<(Vec<String>, Vec<String>)> {
        let names = |sub: &str| -> Result<Vec<String>> {
            let mut names = Vec::new();
            for entry in fs::read_dir(self.root.join(sub))? {
                names.extend(entry?.file_name().into_string().ok());
            }
            Ok(names)
        };
        Ok((names("rw")?, names("layers")?))
    }
}

/// How long a request waits for a removal.
const PATIENCE: Duration = Duration::from_millis(200);

fn in_background(doomed: Vec<PathBuf>) {
    let work = move || {
        for path in doomed {
            if let Err(e) = remove_all(&path) {
                crate::warn!("what is left of a layer could not be removed", "error" = e);
            }
        }
    };
    if let Err(e) = thread::start("discard", 256 * 1024, work) {
        crate::warn!("a layer's files are removed at the next start only", "error" = e);
    }
}

/// `rm -rf` that a hostile tree cannot lead astray.
pub(super) fn remove_all(path: &Path) -> Result<()> {
    remove_for(path, None).map(drop)
}

/// False if it takes longer than `patience`.
fn remove_for(path: &Path, patience: Option<Duration>) -> Result<bool> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(true) };
    let parent = File::open(parent).with_context(|| format!("open {}", parent.display()))?;
    let name = CString::new(name.as_encoded_bytes()).unwrap_or_default();
    tree::remove_until(parent.as_fd(), &name, patience.map(|p| Instant::now() + p))
        .with_context(|| format!("remove {}", path.display()))
}

pub struct Staged {
    layers: Layers,
    path: PathBuf,
    /// Open until dropped; none only while being made.
    open: Option<(File, File)>,
    whiteouts: Whiteouts,
    committed: bool,
}

impl Staging for Staged {
    fn root(&self) -> &File {
        &self.open.as_ref().expect("opened by stage").0
    }
    fn aside(&self) -> &File {
        &self.open.as_ref().expect("opened by stage").1
    }
    fn whiteouts(&self) -> Whiteouts {
        self.whiteouts
    }
    fn commit(mut self: Box<Self>, chain_id: &str) -> Result<()> {
        match fs::rename(&self.path, self.layers.layer(chain_id)) {
            Ok(()) => {
                self.committed = true;
                Ok(())
            }
            // Another thread was first.
            Err(_) if self.layers.has(chain_id) => Ok(()),
            Err(e) => Err(e).with_context(|| format!("commit layer {chain_id}")),
        }
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if !self.committed
            && let Err(e) = remove_all(&self.path)
        {
            crate::warn!("an unfinished layer could not be removed", "error" = e);
        }
    }
}
