//! A file system of a given size, really: a tmpfs in a mount namespace of its own, and somebody who fills it.

use anyhow::{Context as _, ensure};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle, sleep};
use std::time::{Duration, Instant};

/// The file system. It is gone when dropped, with all that is in it.
#[derive(Debug)]
pub(crate) struct SmallDisk {
    holder: Child,
    at: PathBuf,
}

impl SmallDisk {
    /// Why none can be made here, if none can.
    pub(crate) fn not_permitted() -> Option<String> {
        let probe = Command::new("unshare")
            .args(["-m", "mount", "-t", "tmpfs", "tmpfs", "/mnt"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        let permitted = probe.is_ok_and(|status| status.success());
        (!permitted).then(|| "mounting in a namespace of one's own is not permitted".to_owned())
    }

    /// Makes one of this size at a directory, seen only by those in its namespace.
    pub(crate) fn mount(at: &Path, mib: u32) -> anyhow::Result<Self> {
        fs::create_dir_all(at)?;
        let script =
            "mount -t tmpfs -o size=\"$2m\" tmpfs \"$1\" && touch \"$1/.there\" && exec sleep 600";
        let holder = Command::new("unshare")
            .args(["-m", "sh", "-c", script, "sh"])
            .arg(at)
            .arg(mib.to_string())
            .stdin(Stdio::null())
            .spawn()
            .context("cannot run unshare")?;
        let disk = Self {
            holder,
            at: at.to_owned(),
        };
        let deadline = Instant::now() + Duration::from_secs(10);
        while !disk.inside(".there").exists() {
            ensure!(Instant::now() < deadline, "nothing was mounted");
            sleep(Duration::from_millis(10));
        }
        Ok(disk)
    }

    /// The command under which a program sees it.
    pub(crate) fn wrapper(&self) -> Vec<String> {
        let holder = self.holder.id().to_string();
        ["nsenter", "-t", &holder, "-m", "--"]
            .map(str::to_owned)
            .to_vec()
    }

    /// A path in it, as it is seen from outside.
    fn inside(&self, name: &str) -> PathBuf {
        let at = self.at.strip_prefix("/").unwrap_or(&self.at);
        Path::new("/proc")
            .join(self.holder.id().to_string())
            .join("root")
            .join(at)
            .join(name)
    }

    /// Takes every byte that is free, now and whenever one becomes free, until dropped.
    pub(crate) fn fill(&self) -> anyhow::Result<Filler> {
        let path = self.inside("filler");
        let mut file = File::create(&path).context("the file that fills the disk")?;
        let done = Arc::new(AtomicBool::new(false));
        let stop = done.clone();
        let mut fill = move || {
            // Smaller pieces at the end, so that nothing is left over.
            for piece in [vec![1; 1 << 20], vec![1; 4096]] {
                while file.write_all(&piece).is_ok() {}
            }
        };
        fill();
        let thread = thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                fill();
                sleep(Duration::from_millis(20));
            }
        });
        Ok(Filler {
            path,
            done,
            thread: Some(thread),
        })
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        _ = self.holder.kill();
        _ = self.holder.wait();
    }
}

/// Keeps a disk full until dropped.
#[derive(Debug)]
pub(crate) struct Filler {
    path: PathBuf,
    done: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Filler {
    fn drop(&mut self) {
        self.done.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            _ = thread.join();
        }
        _ = fs::remove_file(&self.path);
    }
}
