//! CVE-2019-5736: who executes a PROG of a container runs from no file of the host that can be written to, however the
//! tool was started.

mod common;

mod root {
    use std::ffi::{CStr, CString};
    use std::fs;
    use std::io;
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
    #[derive(Clone, Copy, PartialEq)]
    enum Machine {
        Usual,
        WithoutProc,
        /// As vm.memfd_noexec=2 has it, which is of Linux 6.3.
        WithoutMemfd,
    }

    /// The program `file` under the name and with the arguments `line`, in a mount namespace of its own.
    fn started(machine: Machine, how: How, file: &str, line: &[&str]) -> Command {
        become_in(machine, how, Program::new(file, line, "/usr/sbin:/usr/bin:/sbin:/bin"))
    }

    fn become_in(machine: Machine, how: How, program: Program) -> Command {
        let mut cmd = Command::new("/bin/false"); // which is not reached
        if machine == Machine::WithoutMemfd {
            refuse_calls(&mut cmd, &[libc::SYS_memfd_create], libc::EACCES);
        }
        before_exec(&mut cmd, move || {
            // SAFETY: numbers, and a string that ends with a zero byte.
            unsafe {
                check(libc::unshare(libc::CLONE_NEWNS))?;
                let umount = || libc::umount2(c"/proc".as_ptr(), libc::MNT_DETACH);
                while machine == Machine::WithoutProc && umount() == 0 {}
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

    /// The tool at the head of a line, started. Who starts a copy says in its name what lies beside.
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

    #[test]
    fn who_executes_a_prog_of_another_root_runs_from_a_sealed_copy_however_it_was_started() {
        let place = Place::new();
        for line in place.lines() {
            for how in all() {
                let found = caught(tool(Machine::Usual, how, &line, &["/evil"]), &place);
                let processes = if line.iter().any(|word| word == "td-init") { 2 } else { 1 };
                assert_eq!(found.len(), processes, "{line:?} {how:?}");
                assert!(found.iter().all(|it| *it == Runs::Sealed), "{line:?} {how:?}: {found:?}");
            }
        }
        // Another would be seen.
        let evil = place.path("evil");
        place.0.program("evil", EVIL);
        let found = caught(tool(Machine::Usual, How::Path, &["td-exec".into()], &[&evil]), &place);
        assert_eq!(found, [Runs::FileOfTheHost]);
    }

    #[test]
    fn where_nothing_in_memory_may_be_executed_it_runs_from_a_read_only_mount_however_started() {
        let place = Place::new();
        for line in place.lines() {
            for how in PLAIN {
                let found = caught(tool(Machine::WithoutMemfd, how, &line, &["/evil"]), &place);
                assert!(
                    found.iter().all(|it| *it == Runs::ReadOnly),
                    "{line:?} {how:?}: {found:?}"
                );
            }
        }
    }

    #[test]
    fn without_proc_a_tool_that_was_started_by_descriptor_executes_nothing_and_says_why() {
        let place = Place::new();
        for line in place.lines() {
            let found = caught(tool(Machine::WithoutProc, How::Path, &line, &["/evil"]), &place);
            assert!(found.iter().all(|it| *it == Runs::Sealed), "{line:?}: {found:?}");
            for how in all().filter(|how| *how != How::Path && *how != How::Named) {
                let prog = ["touch", "/ran"];
                let output = run(&mut tool(Machine::WithoutProc, how, &line, &prog)).exits(125);
                output
                    .says("/proc is not a proc file system")
                    .says("the path of this program is not known, and its file can be found only")
                    .says("mount proc on /proc, or start it by its path");
                assert!(!fs::exists(place.path("mnt/ran")).expect("the root"), "{line:?} {how:?}");
            }
        }
    }

    /// The kernel says `/dev/fd/N` then of the script, which may be a sealed file in memory: what runs is none.
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
                assert_eq!(found, [Runs::Sealed], "{tool} {how:?}");
            }
        }
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
