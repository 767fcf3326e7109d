//! The place: directories, the image, and what is found out before anything is measured.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use td::sys::{self, Cx, cstring};

use crate::launch::Candidate;
use crate::plan::{self, Plan};
use crate::{Asked, Result, oci, said};

/// The limits that are asked for.
pub const LIMITS: [&str; 4] = ["--memory", "64M", "--pids", "99"];

pub struct Place {
    pub work: PathBuf,
    /// The name of the container: that of the directory, so that no other run has it.
    pub name: String,
    pub image: PathBuf,
    /// On the file system of the checkout, and on a tmpfs.
    pub state: PathBuf,
    pub tmpfs: PathBuf,
    /// A file for what a program prints.
    pub log: PathBuf,
    /// The default policy, compiled.
    pub policy: PathBuf,
    /// What td records of the cgroups of a container.
    pub record: PathBuf,
    pub bundles: PathBuf,
    /// What the floor is told: with the state, and with that on tmpfs.
    pub plan: Plan,
    pub plan_on_tmpfs: Plan,
    /// A mount namespace in which cgroups are of version 2 alone, where they are not outside.
    pub only_v2: Option<Rc<OwnedFd>>,
}

impl Place {
    pub fn new(cx: &Cx, asked: &Asked) -> Result<Place> {
        let work =
            fs::canonicalize(&asked.work).map_err(|e| format!("{}: {e}", asked.work.display()))?;
        // Nothing that is mounted here is seen outside, and it goes with us.
        sys::unshare(cx, libc::CLONE_NEWNS as u64).map_err(said)?;
        sys::mount(cx, None, c"/", None, libc::MS_REC | libc::MS_PRIVATE, None).map_err(said)?;
        let image = work.join("image");
        for dir in ["bin", "proc", "sys", "dev", "etc", "tmp"] {
            make(&image.join(dir), 0o755)?;
        }
        copy(&work.join("inside"), &image.join("bin/true"))?;
        let (state, tmpfs) = (work.join("state"), work.join("tmpfs"));
        make(&state.join("containers"), 0o700)?;
        make(&tmpfs, 0o700)?;
        let target = cstring(tmpfs.to_string_lossy().as_bytes());
        sys::mount(cx, Some(c"tmpfs"), &target, Some(c"tmpfs"), 0, Some(c"mode=700"))
            .map_err(said)?;
        make(&tmpfs.join("containers"), 0o700)?;
        let mut place = Place {
            log: work.join("log"),
            policy: work.join("policy"),
            record: work.join("record"),
            bundles: work.join("bundle"),
            plan: Plan::default(),
            plan_on_tmpfs: Plan::default(),
            only_v2: oci::only_v2(cx)?.map(Rc::new),
            name: work.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            work,
            image,
            state,
            tmpfs,
        };
        // The first run of a state makes what stays.
        for state in [&place.state, &place.tmpfs] {
            place.td_run("usual/td", state).line(&place.bundles, None).prints(
                cx,
                &place.log,
                &[0],
            )?;
        }
        plan::policy(&place)?;
        place.plan = plan::of(cx, &place, "usual/separate", &place.state)?;
        place.plan_on_tmpfs = plan::of(cx, &place, "usual/separate", &place.tmpfs)?;
        oci::bundles(&place)?;
        Ok(place)
    }

    /// The directory of a build and a form, if that was made: `usual/td`, `small/separate`.
    pub fn form(&self, name: &str) -> Option<PathBuf> {
        Some(self.work.join(name)).filter(|dir| dir.is_dir())
    }

    /// td-run by its first line, with the usual limits.
    pub fn td_run(&self, form: &str, state: &Path) -> Candidate {
        let program = self.work.join(form).join("td-run");
        Candidate::new("td-run", self.td_run_words(&[program.display().to_string()], state))
    }

    /// The same, called by these words.
    pub fn td_run_words(&self, program: &[String], state: &Path) -> Vec<String> {
        let mut words = program.to_vec();
        let (state, image) = (state.display().to_string(), self.image.display().to_string());
        words.extend(["--state", &state, "--image", &image].map(String::from));
        words.extend(LIMITS.map(String::from));
        words.extend([&self.name, "@"].map(String::from));
        words
    }
}

pub fn make(dir: &Path, mode: u32) -> Result<()> {
    let made = fs::DirBuilder::new().recursive(true).mode(mode).create(dir);
    made.map_err(|e| format!("{}: {e}", dir.display()))
}

pub fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to).map(drop).map_err(|e| format!("{} to {}: {e}", from.display(), to.display()))
}

pub fn write(path: &Path, text: impl AsRef<[u8]>) -> Result<()> {
    fs::write(path, text).map_err(|e| format!("{}: {e}", path.display()))
}

/// A script, that can be executed.
pub fn script(path: &Path, text: &str) -> Result<()> {
    write(path, text)?;
    fs::set_permissions(path, PermissionsExt::from_mode(0o755))
        .map_err(|e| format!("{}: {e}", path.display()))
}

pub fn read(path: impl AsRef<Path>) -> Result<String> {
    let path = path.as_ref();
    fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))
}
