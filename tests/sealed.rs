//! CVE-2019-5736: who executes a PROG of a container runs from no file of the host that can be written to, however the
//! tool was started.

mod common;

mod root {
    use std::ffi::{CStr, CString};
    use std::fs;
    use std::io::{self, Read};
    use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
    use std::os::unix::fs::MetadataExt;
    use std::process::{Command, Stdio};

    use super::common::*;

    const SEALS: i32 =
        libc::F_SEAL_SEAL | libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_WRITE;

    /// The descriptor by which a tool is started, and that it may find open.
    const FD: RawFd = 77;

    /// How a tool is started. The kernel calls it `/dev/fd/N` in all but the first.
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum How {
        Path,
        /// fexecve(3) of a descriptor that stays open.
        Kept,
        /// Of one that is closed then, as fexecve(3) is mostly used.
        CloseOnExec,
        /// Of one that is closed then, and whose number is that of another file at once.
        Reused,
        /// execveat(2) from the directory in which it lies.
        Below,
        /// execve(2) of `/dev/fd/N`.
        Named,
        /// A copy in memory that the caller has made.
        Copy,
        /// The same, sealed.
        SealedCopy,
        SealedCopyCloseOnExec,
    }

    /// Those that execute the file itself.
    const PLAIN: [How; 6] =
        [How::Path, How::Kept, How::CloseOnExec, How::Reused, How::Below, How::Named];

    const COPIES: [How; 3] = [How::Copy, How::SealedCopy, How::SealedCopyCloseOnExec];

    fn all() -> impl Iterator<Item = How> {
        PLAIN.into_iter().chain(COPIES)
    }

    /// A copy of `text` in memory.
    fn copy(text: &[u8], seals: i32) -> io::Result<RawFd> {
        // SAFETY: a string that ends with a zero byte, numbers, and so many bytes.
        unsafe {
            let memfd = check(libc::memfd_create(
                c"x".as_ptr(),
                libc::MFD_ALLOW_SEALING | libc::MFD_CLOEXEC,
            ))?;
            let mut left = text;
            while !left.is_empty() {
                let n = libc::write(memfd, left.as_ptr().cast(), left.len());
                left = &left[check(n as i32)? as usize..];
            }
            check(libc::fcntl(memfd, libc::F_ADD_SEALS, seals))?;
            Ok(memfd)
        }
    }

    /// A program that is started, in the forms that its start needs.
    struct Program {
        path: CString,
        directory: CString,
        name: CString,
        bytes: Vec<u8>,
        line: Vec<CString>,
        /// The variable PATH, which is all its environment.
        variable: CString,
    }

    impl Program {
        fn new(file: &str, line: &[&str], search: &str) -> Program {
            let string = |text: &str| CString::new(text).expect("a string");
            let (directory, name) = file.rsplit_once('/').expect("a path");
            let bytes = fs::read(file).expect("a program");
            let line = line.iter().map(|word| string(word)).collect();
            let [path, directory, name] = [file, directory, name].map(string);
            let variable = string(&format!("PATH={search}"));
            Program { path, directory, name, bytes, line, variable }
        }

        /// Become it. This makes system calls only.
        fn exec(&self, how: How) -> io::Result<()> {
            let open = |path: &CStr| {
                // SAFETY: a string that ends with a zero byte.
                check(unsafe { libc::open(path.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC) })
            };
            let cloexec = libc::O_CLOEXEC;
            let empty = |at| self.execveat(at, c"", libc::AT_EMPTY_PATH);
            match how {
                How::Path => self.execveat(libc::AT_FDCWD, &self.path, 0),
                How::Kept => empty(be(open(&self.path)?, FD, 0)?),
                How::CloseOnExec => empty(be(open(&self.path)?, FD, cloexec)?),
                How::Reused => empty(be(open(&self.path)?, 0, cloexec)?),
                How::Below => self.execveat(be(open(&self.directory)?, FD, 0)?, &self.name, 0),
                How::Named => {
                    be(open(&self.path)?, FD, 0)?;
                    self.execveat(libc::AT_FDCWD, c"/dev/fd/77", 0)
                }
                How::Copy => empty(be(copy(&self.bytes, 0)?, FD, 0)?),
                How::SealedCopy => empty(be(copy(&self.bytes, SEALS)?, FD, 0)?),
                How::SealedCopyCloseOnExec => empty(be(copy(&self.bytes, SEALS)?, FD, cloexec)?),
            }
        }

        fn execveat(&self, at: RawFd, path: &CStr, flags: i32) -> io::Result<()> {
            let mut argv = [std::ptr::null(); 16];
            argv.iter_mut().zip(&self.line).for_each(|(pointer, word)| *pointer = word.as_ptr());
            let env = [self.variable.as_ptr(), std::ptr::null()];
            let (path, argv, env) = (path.as_ptr(), argv.as_ptr(), env.as_ptr());
            // SAFETY: a string that ends with a zero byte, lists that end with a null pointer, and numbers.
            let done = unsafe { libc::syscall(libc::SYS_execveat, at, path, argv, env, flags) };
            check(done as i32).map(drop)
        }
    }

    /// Give a descriptor this number.
    fn be(file: RawFd, number: RawFd, flags: i32) -> io::Result<RawFd> {
        // SAFETY: numbers.
        unsafe {
            check(libc::dup3(file, number, flags))?;
            check(libc::close(file))?;
        }
        Ok(number)
    }

    /// Where it is started.
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Machine {
        Usual,
        WithoutProc,
        /// As with vm.memfd_noexec=2, since Linux 6.3.
        WithoutMemfd,
        /// As under a filter that knows no open_tree(2).
        WithoutMounts,
        /// No mount may be bound elsewhere.
        Unbindable,
    }

    /// The program `file` under the name and with the arguments `line`, in a mount namespace of its own.
    fn started(machine: Machine, how: How, file: &str, line: &[&str]) -> Command {
        become_in(machine, how, Program::new(file, line, "/usr/sbin:/usr/bin:/sbin:/bin"))
    }

    fn become_in(machine: Machine, how: How, program: Program) -> Command {
        let mut cmd = Command::new("/bin/false"); // which is not reached
        match machine {
            Machine::WithoutMemfd => {
                refuse_calls(&mut cmd, &[libc::SYS_memfd_create], libc::EACCES);
            }
            Machine::WithoutMounts => {
                refuse_calls(&mut cmd, &[libc::SYS_open_tree], libc::ENOSYS);
            }
            Machine::Usual | Machine::WithoutProc | Machine::Unbindable => {}
        }
        before_exec(&mut cmd, move || {
            // SAFETY: numbers, and a string that ends with a zero byte.
            unsafe {
                check(libc::unshare(libc::CLONE_NEWNS))?;
                let umount = || libc::umount2(c"/proc".as_ptr(), libc::MNT_DETACH);
                while machine == Machine::WithoutProc && umount() == 0 {}
                if machine == Machine::Unbindable {
                    let (none, flags) = (std::ptr::null(), libc::MS_REC | libc::MS_UNBINDABLE);
                    check(libc::mount(none, c"/".as_ptr(), none, flags, none.cast()))?;
                }
            }
            program.exec(how)
        });
        cmd
    }

    /// A new root whose PROG `/evil` executes again what executes it, to print its help.
    struct Place(TempDir);

    impl Place {
        #[track_caller]
        fn new() -> Place {
            let place = Place(image_on_tmpfs("mnt"));
            mount(["-t", "proc", "proc", &place.path("mnt/proc")]);
            place.0.program("mnt/evil", EVIL);
            place
        }

        fn path(&self, name: &str) -> String {
            text(&self.0.join(name)).to_string()
        }

        /// The tools that execute a PROG of another root, and how they come to do so.
        fn lines(&self) -> [Vec<String>; 6] {
            let root = self.path("mnt");
            [
                format!("td-pivot {root}"),
                format!("td-pivot {root} td-exec"),
                format!("td-pivot {root} td-exec td-init"),
                format!("td-enter --root={root}"),
                format!("td-enter --root={root} td-exec"),
                format!("td-enter --root={root} td-exec td-init"),
            ]
            .map(|line| line.split(' ').map(String::from).collect())
        }
    }

    const EVIL: &str = "#!/proc/self/exe --help\n";

    /// The first tool of a line, started. The caller of a copy passes in its name where the other tools are.
    fn tool(machine: Machine, how: How, line: &[String], prog: &[&str]) -> Command {
        let file = bin(&line[0]);
        let mut words: Vec<&str> = line.iter().map(String::as_str).collect();
        words.extend(prog);
        if machine == Machine::Usual && !PLAIN.contains(&how) {
            words[0] = text(&file);
        }
        started(machine, how, text(&file), &words)
    }

    /// The reading end of a pipe, and the writing end, into which no byte goes any more.
    fn full_pipe() -> [OwnedFd; 2] {
        let mut ends = [0; 2];
        // SAFETY: room for two descriptors, which are ours afterwards; numbers, and so many bytes.
        unsafe {
            check(libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC)).expect("a pipe");
            check(libc::fcntl(ends[1], libc::F_SETFL, libc::O_NONBLOCK)).expect("not to wait");
            while libc::write(ends[1], [b'x'; 4096].as_ptr().cast(), 4096) > 0 {}
            while libc::write(ends[1], [b'x'; 1].as_ptr().cast(), 1) > 0 {}
            check(libc::fcntl(ends[1], libc::F_SETFL, 0)).expect("to wait");
            ends.map(|end| OwnedFd::from_raw_fd(end))
        }
    }

    /// What of a process could be written to, once it has ended.
    #[derive(Debug, PartialEq)]
    enum Runs {
        Sealed,
        ReadOnly,
        FileOfTheHost,
        FileOfTheImage,
    }

    fn runs(pid: i32, place: &Place) -> Runs {
        let exe = fs::File::open(format!("/proc/{pid}/exe")).expect("exe");
        let is = |path: &str| {
            let (a, b) = (exe.metadata().expect("exe"), fs::metadata(path).expect("a program"));
            (a.dev(), a.ino()) == (b.dev(), b.ino())
        };
        // SAFETY: numbers, and room for the answer.
        let (seals, flags) = unsafe {
            let mut answer: libc::statvfs = std::mem::zeroed();
            check(libc::fstatvfs(exe.as_raw_fd(), &mut answer)).expect("a file system");
            (libc::fcntl(exe.as_raw_fd(), libc::F_GET_SEALS), answer.f_flag)
        };
        if seals >= 0 && seals & SEALS == SEALS {
            return Runs::Sealed;
        }
        match flags & libc::ST_RDONLY != 0 {
            true => Runs::ReadOnly,
            false if is(&place.path("mnt/bin/busybox")) => Runs::FileOfTheImage,
            false => Runs::FileOfTheHost,
        }
    }

    /// What the processes run once the PROG `/evil` has executed again what executes it; it waits there.
    #[track_caller]
    fn caught(mut cmd: Command, place: &Place) -> Vec<Runs> {
        let [read, write] = full_pipe();
        let what = format!("{cmd:?}");
        cmd.stdin(Stdio::null()).stdout(Stdio::from(write)).stderr(Stdio::piped());
        let running = start_with(&mut cmd);
        drop(cmd); // which has the writing end as well
        let is_evil = |pid: &i32| {
            let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.starts_with("/proc/self/exe\0--help\0")
        };
        let processes = wait_for(&what, || {
            assert!(is_alive(running.pid()), "{}", running.err());
            let mut processes = vec![running.pid()];
            processes.extend(children_of(running.pid()));
            processes.iter().any(is_evil).then_some(processes)
        });
        let found = processes.iter().map(|pid| runs(*pid, place)).collect();
        // Process 1, where there is one, ends with it.
        kill(*processes.last().expect("a process"), libc::SIGKILL);
        drop(read);
        running.wait();
        found
    }

    /// td-pivot mounts; td-enter, which is seen by those who are inside already, copies.
    fn usual(tool: &str) -> Runs {
        if tool == "td-pivot" { Runs::ReadOnly } else { Runs::Sealed }
    }

    #[test]
    fn who_executes_a_prog_of_another_root_runs_sealed_however_it_was_started() {
        let place = Place::new();
        for line in place.lines() {
            for how in all() {
                let found = caught(tool(Machine::Usual, how, &line, &["/evil"]), &place);
                let processes = if line.iter().any(|word| word == "td-init") { 2 } else { 1 };
                assert_eq!(found.len(), processes, "{line:?} {how:?}");
                // A copy of the caller's is on no mount that could be had once more; a tool beside it is.
                let is_all = line.len() == 2 || is_one_program();
                let of_caller = COPIES.contains(&how) && is_all;
                let expected = if of_caller { Runs::Sealed } else { usual(&line[0]) };
                assert!(found.iter().all(|it| *it == expected), "{line:?} {how:?}: {found:?}");
            }
        }
        // Another would be seen.
        let evil = place.path("evil");
        place.0.program("evil", EVIL);
        let found = caught(tool(Machine::Usual, How::Path, &["td-exec".into()], &[&evil]), &place);
        assert_eq!(found, [Runs::FileOfTheHost]);
    }

    #[test]
    fn where_it_cannot_be_sealed_in_one_way_it_is_in_the_other() {
        let place = Place::new();
        let machines = [
            (Machine::WithoutMemfd, Runs::ReadOnly),
            (Machine::WithoutMounts, Runs::Sealed),
            (Machine::Unbindable, Runs::Sealed),
        ];
        for (machine, expected) in machines {
            for line in place.lines() {
                for how in PLAIN {
                    let found = caught(tool(machine, how, &line, &["/evil"]), &place);
                    let processes = if line.iter().any(|word| word == "td-init") { 2 } else { 1 };
                    assert_eq!(found.len(), processes, "{line:?} {how:?}");
                    assert!(found.iter().all(|it| *it == expected), "{line:?} {how:?}: {found:?}");
                }
            }
        }
    }

    #[test]
    fn without_proc_a_tool_that_was_started_by_descriptor_executes_nothing_and_says_why() {
        let place = Place::new();
        for line in place.lines() {
            let found = caught(tool(Machine::WithoutProc, How::Path, &line, &["/evil"]), &place);
            assert!(found.iter().all(|it| *it == usual(&line[0])), "{line:?}: {found:?}");
            for how in all().filter(|how| *how != How::Path && *how != How::Named) {
                let prog = ["touch", "/ran"];
                let output = run(&mut tool(Machine::WithoutProc, how, &line, &prog)).exits(125);
                output
                    .says("/proc is not a proc file system")
                    .says("the path of this program is not known, and its file can be found only")
                    .says("mount proc on /proc, or start the program by its path");
                assert!(!fs::exists(place.path("mnt/ran")).expect("the root"), "{line:?} {how:?}");
            }
        }
    }

    /// The kernel then returns `/dev/fd/N` of the script, which may be a sealed file in memory; the program that runs
    /// is not sealed.
    #[test]
    fn the_interpreter_of_a_script_is_not_taken_for_sealed_because_the_script_is() {
        let place = Place::new();
        let root = place.path("mnt");
        place.0.dir("mnt/dev/fd");
        place.0.dir(&format!("mnt{}", text(place.0.path())));
        // PROG is the script, which is another in there.
        place.0.program("mnt/dev/fd/77", EVIL);
        place.0.program(&format!("mnt{}", place.path("script")), EVIL);
        for (tool, option) in [("td-pivot", ""), ("td-enter", "--root=")] {
            let line = format!("#!{} {option}{root}\n", text(&bin(tool)));
            let script = place.path("script");
            place.0.program("script", line);
            for how in [How::Path, How::Kept, How::Named, How::Copy, How::SealedCopy] {
                let found = caught(started(Machine::Usual, how, &script, &["script"]), &place);
                assert_eq!(found, [usual(tool)], "{tool} {how:?}");
            }
        }
    }

    // ---- what is tried inside, with all rights that there are ----

    /// What one may try to write to the program of a process, or to have it where it can be written to.
    const ATTACKS: [&str; 11] = [
        "write to it",
        "change its mode",
        "change its times",
        "clear the flag of its mount, by path",
        "clear the flag of its mount, by descriptor",
        "clone its mount",
        "mount its mount elsewhere",
        "remount it",
        "bind it elsewhere",
        "link it elsewhere",
        "clear its attributes",
    ];

    /// Try all of [`ATTACKS`] on a path; `/x` is a file. Bit n of the answer is set where n succeeds.
    fn attack(exe: &CStr) -> i32 {
        let at = libc::AT_FDCWD;
        let writable = [0u64, libc::MOUNT_ATTR_RDONLY, 0, 0]; // struct mount_attr
        let (empty, x, null) = (c"".as_ptr(), c"/x".as_ptr(), std::ptr::null::<libc::c_void>());
        // SAFETY: strings that end with a zero byte, numbers, structures of that size, and null pointers
        // where they are allowed.
        let done = unsafe {
            let to_write = libc::open(exe.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
            let file = libc::open(exe.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC);
            let path = libc::open(exe.as_ptr(), libc::O_PATH | libc::O_CLOEXEC);
            let set = |fd: RawFd, path: *const libc::c_char, flags: i32| {
                libc::syscall(libc::SYS_mount_setattr, fd, path, flags, &writable, 32)
            };
            let mut attributes: libc::c_long = 0;
            let get = libc::ioctl(file, libc::FS_IOC_GETFLAGS, &mut attributes);
            [
                libc::write(to_write, exe.as_ptr().cast(), 1) == 1,
                libc::fchmod(file, 0o755) == 0,
                libc::futimens(file, null.cast()) == 0,
                set(at, exe.as_ptr(), 0) == 0,
                set(path, empty, libc::AT_EMPTY_PATH) == 0,
                libc::syscall(libc::SYS_open_tree, at, exe.as_ptr(), libc::OPEN_TREE_CLONE) >= 0,
                libc::syscall(libc::SYS_move_mount, path, empty, at, x, 4) == 0, // MOVE_MOUNT_F_EMPTY_PATH
                libc::mount(empty, exe.as_ptr(), empty, libc::MS_REMOUNT | libc::MS_BIND, null)
                    == 0,
                libc::mount(exe.as_ptr(), x, empty, libc::MS_BIND, null) == 0,
                libc::linkat(path, empty, at, c"/linked".as_ptr(), libc::AT_EMPTY_PATH) == 0,
                get == 0 && libc::ioctl(file, libc::FS_IOC_SETFLAGS, &attributes) == 0,
            ]
        };
        done.iter().enumerate().map(|(n, done)| i32::from(*done) << n).sum()
    }

    /// The same, in the namespaces and the root of the process of which it is, and as its user namespace's root; and
    /// again once it has ended, by a descriptor that was kept.
    fn attacked(parent: i32, pid: i32) -> [i32; 2] {
        let mut cmd = Command::new("/bin/false"); // which is not reached
        let exe = CString::new(format!("{pid}/exe")).expect("a path");
        let [results, answer] = pipe();
        before_exec(&mut cmd, move || {
            // SAFETY: numbers, and so many bytes.
            unsafe {
                let open = |pid: i32| check(libc::syscall(libc::SYS_pidfd_open, pid, 0) as i32);
                let (pidfd, parent) = (open(pid)?, open(parent)?);
                let proc = check(libc::open(c"/proc".as_ptr(), libc::O_PATH))?; // where we are seen as well
                let user = libc::setns(pidfd, libc::CLONE_NEWUSER);
                check(libc::setns(pidfd, libc::CLONE_NEWNS))?;
                check(libc::fchdir(proc))?;
                if user == 0 {
                    check(libc::setresuid(0, 0, 0))?;
                }
                let first = attack(&exe);
                let kept = check(libc::open(exe.as_ptr(), libc::O_RDONLY))?;
                // With it ends the parent that waits, which executes the same file: then ETXTBSY is no answer any more.
                check(libc::kill(pid, libc::SIGKILL))?;
                for process in [pidfd, parent] {
                    let mut ended = libc::pollfd { fd: process, events: libc::POLLIN, revents: 0 };
                    check(libc::poll(&mut ended, 1, 10_000))?;
                }
                check(libc::dup2(kept, FD))?;
                let second = attack(c"self/fd/77");
                let both = [first, second];
                check(libc::write(answer.as_raw_fd(), both.as_ptr().cast(), 8) as i32)?;
                libc::_exit(0)
            }
        });
        cmd.status().expect("an end");
        drop(cmd); // which has the writing end as well
        let mut bytes = [0; 8];
        fs::File::from(results).read_exact(&mut bytes).expect("two answers");
        let [a, b, c, d, rest @ ..] = bytes;
        [i32::from_ne_bytes([a, b, c, d]), i32::from_ne_bytes(rest)]
    }

    /// A pipe: the reading end and the writing end.
    fn pipe() -> [OwnedFd; 2] {
        let mut ends = [0; 2];
        // SAFETY: room for two descriptors, which are ours afterwards.
        unsafe {
            check(libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC)).expect("a pipe");
            ends.map(|end| OwnedFd::from_raw_fd(end))
        }
    }

    /// The names of attacks.
    fn names(bits: i32) -> Vec<&'static str> {
        let done = ATTACKS.iter().enumerate().filter(|(n, _)| bits >> n & 1 == 1);
        done.map(|(_, name)| *name).collect()
    }

    #[test]
    fn with_all_rights_inside_nobody_writes_to_the_program_of_process_1() {
        let place = Place::new();
        place.0.program("mnt/x", "");
        fs::create_dir_all(place.path("lower")).expect("a directory");
        let programs = bin_dir();
        run(Command::new("cp").arg("-a").arg(text(&programs)).arg(place.path("lower/bin"))).ok();
        // The file systems on which the programs of a host may be.
        let on_disk = TempDir::new();
        run(Command::new("cp").arg("-a").arg(text(&programs)).arg(on_disk.join("bin"))).ok();
        let (upper, merged) = (text(&place.0.dir("upper")).to_string(), place.0.dir("merged"));
        let layers = format!("lowerdir={},upperdir={upper}", place.path("lower"));
        let layers = format!("{layers},workdir={}", text(&place.0.dir("work")));
        mount(["-t", "overlay", "-o", &layers, "overlay", text(&merged)]);
        let hosts = [place.path("lower"), text(on_disk.path()).into(), text(&merged).into()];
        for host in &hosts {
            for (options, machine) in [
                ("-m -p", Machine::Usual),
                ("-r -m -p", Machine::Usual),
                ("-m -p", Machine::WithoutMounts),
            ] {
                let root = place.path("mnt");
                let line = format!(
                    "td-unshare {options} td-mount --proc {root} td-pivot {root} td-exec td-init sleep 1000"
                );
                let line: Vec<&str> = line.split(' ').collect();
                let tool = format!("{host}/bin/td-unshare");
                let sum =
                    || run(Command::new("cksum").arg(format!("{host}/bin/td-exec"))).ok().out();
                let before = sum();
                let running = start_with(&mut started(machine, How::Path, &tool, &line));
                let is_init = |pid: &i32| {
                    fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|c| c == "td-init\n")
                };
                let init =
                    wait_for("process 1", || children_of(running.pid()).into_iter().find(is_init));
                wait_for("PROG", || children_of(init).first().copied());
                let [first, second] = attacked(running.pid(), init);
                // Of a copy in memory mode, times and attributes are its own, and none of a file of the host.
                let allowed = if machine == Machine::Usual { 0 } else { 1 << 1 | 1 << 2 | 1 << 10 };
                assert_eq!(names(first & !allowed), [""; 0], "{host} {options} {machine:?}");
                assert_eq!(
                    names(second & !allowed),
                    [""; 0],
                    "{host} {options} {machine:?}, afterwards"
                );
                running.wait();
                assert_eq!(sum(), before);
            }
        }
        // A file that is not sealed can be written to as soon as no process executes it.
        place.0.program("mnt/plain", fs::read("/bin/sleep").expect("sleep"));
        let line = ["td-unshare", "-m", "-p", &place.path("mnt/plain"), "1000"];
        let running =
            start_with(&mut started(Machine::Usual, How::Path, text(&bin("td-unshare")), &line));
        let is_plain = |pid: &i32| {
            fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|c| c == "plain\n")
        };
        let plain = wait_for("it", || children_of(running.pid()).into_iter().find(is_plain));
        let [first, second] = attacked(running.pid(), plain);
        assert!(
            names(first).contains(&"change its mode") && names(first).contains(&"clone its mount")
        );
        assert!(names(second).contains(&"write to it"), "{:?}", names(second));
        running.wait();
    }

    #[test]
    fn prog_has_no_descriptor_of_the_way_in_which_the_tool_was_started() {
        let place = Place::new();
        for line in place.lines() {
            for how in all() {
                let prog = ["sh", "-c", "ls /proc/$$/fd; true"];
                let out = run(&mut tool(Machine::Usual, how, &line, &prog)).ok().out();
                let expected = if how == How::Reused { "1\n2\n" } else { "0\n1\n2\n" };
                assert_eq!(out, expected, "{line:?} {how:?}");
            }
        }
    }

    #[test]
    fn a_tool_that_was_started_by_descriptor_finds_the_others_beside_it_and_not_in_path() {
        let place = Place::new();
        let wrong = format!("{}:/usr/bin:/bin", text(&place.0.dir("wrong")));
        place.0.program("wrong/td-exec", "#!/bin/sh\necho wrong\n");
        for first in ["td-exec", "td-unshare", "td-enter"] {
            for how in PLAIN {
                let line = [first, "td-exec", "echo", "right"];
                let program = Program::new(text(&bin(first)), &line, &wrong);
                let out = run(&mut become_in(Machine::Usual, how, program)).ok().out();
                assert_eq!(out, "right\n", "{first} {how:?}");
            }
        }
    }
}
