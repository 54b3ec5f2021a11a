//! Images in the store of a container engine, read and written as archives by the engine's own program.
//!
//! The program inherits the environment, so that it finds its store or daemon as it always does (`DOCKER_HOST`,
//! `CONTAINER_HOST`, `CONTAINERD_ADDRESS`, `CONTAINERD_NAMESPACE`, contexts).

use super::StoredImage;
use super::archive;
use crate::common::bounded_read;
use crate::common::digest::Digest;
use crate::common::error::{Error, ErrorKind, Result};
use crate::common::root::Root;
use crate::common::threads;
use crate::spec::Platform;
use crate::spec::reference::Reference;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

/// The amount of a program's output that is kept, in bytes.
const LONGEST_COMPLAINT: u64 = 64 << 10;

/// The number of characters of it that messages quote.
const LONGEST_QUOTE: usize = 400;

/// The time that a program may take to exit after it has closed its input.
const PATIENCE: Duration = Duration::from_secs(10);

/// The time between two looks at a program.
const PAUSE: Duration = Duration::from_millis(5);

/// The container engine that owns an image store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContainerEngine {
    /// Docker's (`docker-daemon:`).
    Docker,
    /// podman's (`containers-storage:`).
    Podman,
    /// containerd's (`containerd:`).
    Containerd,
}

/// A program that reads and writes the store of an engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EngineProgram {
    /// `docker`.
    Docker,
    /// `podman`.
    Podman,
    /// containerd's `ctr`.
    Ctr,
}

/// The programs of an engine, and the directories in which they are looked for.
#[derive(Debug)]
pub struct EngineStore {
    engine: ContainerEngine,
    programs: Vec<EngineProgram>,
    path: Vec<PathBuf>,
    namespace: Option<String>,
}

/// A program of an engine that was started.
struct StartedProgram {
    program: EngineProgram,
    /// Its name in messages.
    object: String,
    process: Child,
}

impl StartedProgram {
    /// Waits for the end of the program.
    ///
    /// # Errors
    /// Fails if the program fails.
    fn answer(self) -> Result<EngineAnswer> {
        let StartedProgram { program, object, mut process } = self;
        let (output, errors) = (process.stdout.take(), process.stderr.take());
        let read = || errors.map(start_of).unwrap_or_default();
        let (complaint, output) = threads::both(read, || output.map(start_of).unwrap_or_default());
        let status = process.wait().map_err(|error| Error::io(&object, "wait for", error))?;
        check(&object, status, &complaint.unwrap_or_default())?;
        Ok(EngineAnswer { program, object, output: String::from_utf8_lossy(&output).into_owned() })
    }
}

/// Connects a program that reads nothing, and whose output is read.
fn without_input(command: &mut Command) -> Result<()> {
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    Ok(())
}

/// What a program of an engine has printed.
pub(super) struct EngineAnswer {
    pub(super) program: EngineProgram,
    /// The name of the program in messages.
    pub(super) object: String,
    /// The start of it.
    pub(super) output: String,
}

/// A running program that loads the archive which is written to it.
#[derive(Debug)]
pub struct Loading {
    object: String,
    process: Child,
    input: Option<ChildStdin>,
    complaint: JoinHandle<Vec<u8>>,
}

impl ContainerEngine {
    /// Returns the transport, as skopeo calls it.
    pub fn transport(self) -> &'static str {
        match self {
            ContainerEngine::Docker => "docker-daemon",
            ContainerEngine::Podman => "containers-storage",
            ContainerEngine::Containerd => "containerd",
        }
    }
}

impl EngineProgram {
    pub(super) fn name(self) -> &'static str {
        match self {
            EngineProgram::Docker => "docker",
            EngineProgram::Podman => "podman",
            EngineProgram::Ctr => "ctr",
        }
    }

    /// Returns the arguments that load an archive from standard input.
    fn to_load(self) -> &'static [&'static str] {
        match self {
            EngineProgram::Docker | EngineProgram::Podman => &["load"],
            EngineProgram::Ctr => &["image", "import", "-"],
        }
    }

    /// Returns the arguments that pull an image over plain HTTP; its name follows.
    fn to_pull(self) -> &'static [&'static str] {
        match self {
            EngineProgram::Docker => &["pull", "--quiet"],
            EngineProgram::Podman => &["pull", "--quiet", "--tls-verify=false"],
            EngineProgram::Ctr => &["image", "pull", "--plain-http"],
        }
    }

    /// Returns the arguments that give an image another name; both names follow.
    fn to_tag(self) -> &'static [&'static str] {
        match self {
            EngineProgram::Docker | EngineProgram::Podman => &["tag"],
            EngineProgram::Ctr => &["image", "tag", "--force"],
        }
    }

    /// Returns the arguments that print the digest of an image; what says its name follows.
    fn to_identify(self) -> &'static [&'static str] {
        match self {
            EngineProgram::Docker | EngineProgram::Podman => &["image", "inspect", "--format", "{{.Id}}"],
            EngineProgram::Ctr => &["image", "list"],
        }
    }

    /// Returns the argument of [`EngineProgram::to_identify`] that says the name of the image.
    fn named(self, name: &Reference) -> String {
        match self {
            EngineProgram::Docker | EngineProgram::Podman => name.to_string(),
            EngineProgram::Ctr => format!("name=={name}"),
        }
    }

    /// Returns the arguments that write an archive to standard output; the name of the image follows.
    fn to_save(self) -> &'static [&'static str] {
        match self {
            EngineProgram::Docker | EngineProgram::Podman => &["save"],
            EngineProgram::Ctr => &["image", "export", "-"],
        }
    }
}

impl EngineStore {
    /// Returns the store of `engine`, reached by the first of `programs` that is in one of the directories `path`.
    pub fn new(engine: ContainerEngine, programs: Vec<EngineProgram>, path: Vec<PathBuf>) -> Self {
        EngineStore { engine, programs, path, namespace: None }
    }

    /// Sets the namespace of containerd, which is otherwise that of the environment.
    #[must_use]
    pub fn in_namespace(self, namespace: Option<&str>) -> Self {
        EngineStore { namespace: namespace.map(str::to_owned), ..self }
    }

    /// Reads the image `name` from the store, through an unnamed file in `directory`.
    ///
    /// # Errors
    /// Fails if no program is found, it fails, or what it writes is not the image of that name, for `platform`.
    pub fn image(&self, name: &Reference, platform: Option<&Platform>, directory: &Root) -> Result<StoredImage> {
        let archive = directory.temporary()?;
        let share = || archive.share().map_err(|error| Error::file(directory.path(), "create a file", error));
        let name = name.to_string();
        let StartedProgram { object, mut process, .. } =
            self.start(EngineProgram::to_save, &|_| vec![name.clone()], &|command| {
                command.stdin(Stdio::null()).stdout(share()?);
                Ok(())
            })?;
        let complaint = process.stderr.take().map(start_of).unwrap_or_default();
        let status = process.wait().map_err(|error| Error::io(&object, "wait for", error))?;
        check(&object, status, &complaint)?;
        archive::read_saved(archive.into_unnamed()?, &object, &name, platform)
    }

    /// Starts the program that loads an archive. The archive is then written to the returned value.
    ///
    /// # Errors
    /// Fails if no program is found, or it cannot be started.
    pub fn load(&self) -> Result<Loading> {
        let StartedProgram { object, mut process, .. } =
            self.start(EngineProgram::to_load, &|_| Vec::new(), &|command| {
                command.stdin(Stdio::piped()).stdout(Stdio::null());
                Ok(())
            })?;
        let (input, errors) = (process.stdin.take(), process.stderr.take());
        let read = move || errors.map(start_of).unwrap_or_default();
        match Builder::new().spawn(read) {
            Ok(complaint) => Ok(Loading { object, process, input, complaint }),
            Err(error) => {
                // The process may have ended. The first error is what counts.
                process.kill().ok();
                process.wait().ok();
                Err(Error::io(&object, "start a thread for", error))
            }
        }
    }

    /// Lets the engine pull the image `source`, which is named by its digest, over plain HTTP, and replaces that name by `names`.
    /// `digests` are those by which an engine may call the image.
    ///
    /// # Errors
    /// Fails if no program is found, or the engine does not pull the image, change its names or have it under all of them in the end.
    pub fn pull(&self, source: &str, names: &[Reference], digests: &[Digest]) -> Result<()> {
        let untag = || self.run(|_| &["image", "rm"], &|_| vec![source.to_owned()]).map(drop);
        let pulling = self.start(EngineProgram::to_pull, &|_| vec![source.to_owned()], &without_input)?;
        let program = pulling.program;
        let pulled = pulling.answer();
        if pulled.is_err() && program == EngineProgram::Ctr {
            // It names an image before it unpacks it. Where it has not come to that, there is nothing to remove.
            untag().ok();
        }
        pulled?;
        let tag = |name: &Reference| {
            self.run(EngineProgram::to_tag, &|_| vec![source.to_owned(), name.to_string()]).map(drop)
        };
        let tagged = names.iter().try_for_each(tag);
        // Each takes most of its time to start.
        let (untagged, checked) = threads::both(untag, || tagged.and_then(|()| self.check_has(names, digests)));
        let stopped = || Err(Error::invalid(self.engine.transport(), "stopped unexpectedly"));
        checked.and(untagged.unwrap_or_else(stopped))
    }

    /// Checks that the image with each of the `names` in the engine has one of the `digests`: engines call an image by its config or its
    /// manifest.
    ///
    /// # Errors
    /// Fails if one has not, no program is found, or it fails.
    pub fn check_has(&self, names: &[Reference], digests: &[Digest]) -> Result<()> {
        let named = |program: EngineProgram| names.iter().map(|name| program.named(name)).collect();
        let EngineAnswer { object, output, .. } = self.run(EngineProgram::to_identify, &named)?;
        let digest = |word: &str| word.parse().or_else(|_| format!("sha256:{word}").parse::<Digest>()).ok();
        let found: Vec<Digest> = output.split_whitespace().filter_map(digest).collect();
        let listed = || names.iter().map(ToString::to_string).collect::<Vec<_>>().join(" or ");
        match found.iter().find(|found| !digests.contains(found)) {
            Some(other) => {
                Err(Error::new(ErrorKind::Changed, object, format!("{} is another image, {other}", listed())))
            }
            None if found.len() < names.len() => {
                Err(Error::new(ErrorKind::NotFound, object, format!("has no image {}", listed())))
            }
            None => Ok(()),
        }
    }

    /// Runs a program to its end.
    ///
    /// # Errors
    /// Fails if no program is found, or it fails.
    pub(super) fn run(
        &self,
        arguments: fn(EngineProgram) -> &'static [&'static str],
        operands: &dyn Fn(EngineProgram) -> Vec<String>,
    ) -> Result<EngineAnswer> {
        self.start(arguments, operands, &without_input)?.answer()
    }

    /// Starts the first program that is found. Relative directories are skipped: they would mean
    /// the working directory, which may contain programs of other users.
    fn start(
        &self,
        arguments: fn(EngineProgram) -> &'static [&'static str],
        operands: &dyn Fn(EngineProgram) -> Vec<String>,
        connect: &dyn Fn(&mut Command) -> Result<()>,
    ) -> Result<StartedProgram> {
        let mut refused = None;
        for program in &self.programs {
            for directory in self.path.iter().filter(|directory| directory.is_absolute()) {
                let mut command = Command::new(directory.join(program.name()));
                if let (EngineProgram::Ctr, Some(namespace)) = (program, &self.namespace) {
                    command.arg(format!("--namespace={namespace}"));
                }
                command.args(arguments(*program)).args(operands(*program)).stderr(Stdio::piped());
                connect(&mut command)?;
                match command.spawn() {
                    Ok(process) => {
                        let words = arguments(*program).iter().filter(|word| !word.starts_with(['-', '{']));
                        let words: Vec<&str> = std::iter::once(program.name()).chain(words.copied()).collect();
                        return Ok(StartedProgram { program: *program, object: words.join(" "), process });
                    }
                    // A directory of PATH may itself be missing or be a file.
                    Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
                    Err(error) => refused = refused.or(Some(Error::io(program.name(), "run", error))),
                }
            }
        }
        Err(refused.unwrap_or_else(|| self.missing()))
    }

    fn missing(&self) -> Error {
        let names: Vec<&str> = self.programs.iter().map(|program| program.name()).collect();
        let hint = match self.engine {
            ContainerEngine::Docker => "docker-archive:FILE is what `docker save` writes and `docker load` reads",
            ContainerEngine::Podman => "docker-archive:FILE is what `podman save` writes and `podman load` reads",
            ContainerEngine::Containerd => "docker-archive:FILE is what `ctr image import` reads",
        };
        let reason = format!("{} not found in PATH", names.join(" or "));
        Error::new(ErrorKind::NotFound, self.engine.transport(), reason).hint(hint)
    }
}

impl Loading {
    /// Returns the name of the program in messages.
    pub fn object(&self) -> String {
        self.object.clone()
    }

    /// Ends the archive, which is complete if `written` is `Ok`, and waits until it is loaded. If it is incomplete, the
    /// program is killed before it can see an end.
    ///
    /// # Errors
    /// The error of `written`; if the program fails or does not read the whole archive, that error instead.
    pub fn finish<T>(mut self, written: Result<T>) -> Result<T> {
        let is_refused = written.as_ref().is_err_and(|error| error.object() == self.object);
        if written.is_err() && !(is_refused && self.has_ended()) {
            // The process may have ended. The error of the archive is what counts.
            self.process.kill().ok();
            self.process.wait().ok();
            return written;
        }
        let is_read = self.has_read_everything();
        drop(self.input.take());
        let status = self.process.wait().map_err(|error| Error::io(&self.object, "wait for", error))?;
        check(&self.object, status, &self.complaint.join().unwrap_or_default())?;
        match is_refused || !is_read {
            true => Err(Error::new(ErrorKind::Io, self.object, "exited before it had read the archive")),
            false => written,
        }
    }

    /// Waits until the program has read everything that was written, or has ended. Returns whether it has read everything.
    ///
    /// A small archive fits into the pipe, so writing it proves nothing.
    fn has_read_everything(&mut self) -> bool {
        loop {
            let has_ended = !matches!(self.process.try_wait(), Ok(None));
            match self.input.as_ref().map_or(0, unread) {
                0 => return true,
                _ if has_ended => return false,
                _ => std::thread::sleep(PAUSE),
            }
        }
    }

    /// Returns `true` if the program, which takes no more input, ends by itself.
    fn has_ended(&mut self) -> bool {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if !matches!(self.process.try_wait(), Ok(None)) {
                return true;
            }
            std::thread::sleep(PAUSE);
        }
        false
    }
}

impl Write for Loading {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.input {
            Some(input) => input.write(bytes),
            None => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.input.as_mut().map_or(Ok(()), Write::flush)
    }
}

/// Returns the number of bytes that were written to a pipe and not read yet.
#[cfg(unix)]
fn unread(pipe: &ChildStdin) -> u64 {
    // A system that does not report this is no reason to refuse a program that succeeds.
    rustix::io::ioctl_fionread(pipe).unwrap_or(0)
}

/// Returns 0: the writing end of a pipe shows nothing on this system.
#[cfg(not(unix))]
fn unread(_: &ChildStdin) -> u64 {
    0
}

/// Returns the start of what a program says. The rest is read and dropped, so that the program does not wait.
fn start_of(mut errors: impl Read) -> Vec<u8> {
    // What cannot be read is only missing in a message.
    let mut output = Vec::new();
    bounded_read::read_start(&mut errors, LONGEST_COMPLAINT, &mut output).ok();
    io::copy(&mut errors, &mut io::sink()).ok();
    output
}

/// Requires that the program has succeeded.
fn check(object: &str, status: ExitStatus, complaint: &[u8]) -> Result<()> {
    if status.success() {
        return Ok(());
    }
    let output = String::from_utf8_lossy(complaint);
    let lines: Vec<&str> = output.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    // The last lines name the fault; progress comes before them.
    let last = lines[lines.len().saturating_sub(3)..].join("; ");
    let quote: String = last.chars().take(LONGEST_QUOTE).collect();
    let reason = if quote.is_empty() { format!("failed ({status})") } else { format!("failed ({status}): {quote}") };
    Err(Error::new(ErrorKind::Io, object, reason))
}
