//! Runs a program of the operator's once for each notice: JSON on its standard input, exit code 0
//! when it accepts the notice.
//!
//! No shell is involved. The environment holds only [`ENVIRONMENT`], so that it has no secret of
//! ours. The program's output is read, within a limit, and becomes part of the failure's text.
//! After [`TIME_LIMIT`] it is killed with its children, and also when the daemon stops waiting.
//! When the daemon itself is killed, the program continues, and the notice is sent again.

use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

use super::body;
use crate::model::{Failure, FailureKind, Notice, Shown, json_shown};

/// The variables of our environment that the program gets.
const ENVIRONMENT: [&str; 3] = ["PATH", "HOME", "LANG"];
/// A program that takes longer counts as stuck.
const TIME_LIMIT: Duration = Duration::from_secs(30);
/// Its own output is complete when it ends; a child left behind may keep the pipe open.
const LAST_WORDS: Duration = Duration::from_millis(200);
/// Enough for a sentence about the problem; the rest is read and discarded.
const OUTPUT_MAX: usize = 1024;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The program's absolute path, then its arguments.
    pub run: Vec<String>,
}

/// Kills the program and its children, unless it has ended.
struct ProcessGroup(Option<Pid>);

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        if let Some(pid) = self.0 {
            // It may just have ended.
            kill_process_group(pid, Signal::KILL).unwrap_or(());
        }
    }
}

/// The exit code for a temporary failure: `EX_TEMPFAIL` of `sysexits.h`.
const LATER: i32 = 75;

/// Runs the program with a notice.
///
/// # Errors
/// When it cannot be run, ends with another code than 0, or does not end in time; `Unreachable`
/// when it asks to be run later.
pub(crate) async fn send(settings: &Settings, notice: &Notice) -> Result<String, Failure> {
    let line = format!("{}\n", json_shown(&body(notice).to_string()));
    send_within(settings, line, TIME_LIMIT).await
}

async fn send_within(
    settings: &Settings,
    line: String,
    limit: Duration,
) -> Result<String, Failure> {
    let Some((program, arguments)) = settings.run.split_first() else {
        return Err(failed("no program is configured".into()));
    };
    let mut child = start(program, arguments)
        .map_err(|error| failed(format!("{program} cannot be run: {error}")))?;
    let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    let mut group = ProcessGroup(pid);
    let mut written = CommandOutput::default();
    let ended = converse(&mut child, line, &mut written);
    let status = match tokio::time::timeout(limit, ended).await {
        Ok(Ok(status)) => status,
        Ok(Err(error)) => return Err(failed(format!("{program} cannot be waited for: {error}"))),
        Err(_) => {
            let said = said(&written);
            let limit = limit.as_secs();
            return Err(failed(format!("{program} was killed after {limit} s{said}")));
        }
    };
    group.0 = None;
    let text = || format!("{program} ended with {status}{}", said(&written));
    match status.code() {
        Some(0) => Ok(text()),
        Some(LATER) => Err(Failure::new(FailureKind::Unreachable, text())),
        Some(_) | None => Err(failed(text())),
    }
}

fn failed(message: String) -> Failure {
    Failure::new(FailureKind::LocalFault, message)
}

fn start(program: &str, arguments: &[String]) -> std::io::Result<Child> {
    let inherited = ENVIRONMENT.iter().filter_map(|name| Some((name, std::env::var_os(name)?)));
    Command::new(program)
        .args(arguments)
        .env_clear()
        .envs(inherited)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
}

/// Writes the input and reads the output until the program ends.
#[derive(Default)]
struct CommandOutput {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

async fn converse(
    child: &mut Child,
    line: String,
    written: &mut CommandOutput,
) -> std::io::Result<ExitStatus> {
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let feed = async {
        if let Some(mut stdin) = stdin {
            // A program may decide without reading its input; its exit code counts.
            stdin.write_all(line.as_bytes()).await.unwrap_or(());
        }
    };
    let talk = async {
        tokio::join!(feed, hear(stdout, &mut written.stdout), hear(stderr, &mut written.stderr));
    };
    tokio::pin!(talk);
    let status = tokio::select! {
        status = child.wait() => status?,
        () = &mut talk => return child.wait().await,
    };
    tokio::time::timeout(LAST_WORDS, talk).await.unwrap_or(());
    Ok(status)
}

/// Reads to the end and keeps the beginning.
async fn hear(from: Option<impl AsyncRead + Unpin>, kept: &mut Vec<u8>) {
    let Some(mut from) = from else { return };
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        let room = OUTPUT_MAX.saturating_sub(kept.len()).min(count);
        kept.extend_from_slice(&buffer[..room]);
    }
}

/// Returns the program's output, errors first, as the end of a sentence.
fn said(written: &CommandOutput) -> String {
    let both = [&written.stderr[..], b" ", &written.stdout[..]].concat();
    let text = String::from_utf8_lossy(&both);
    let words: Vec<_> = text.split_whitespace().collect();
    if words.is_empty() { String::new() } else { format!(": {}", Shown(&words.join(" "))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn shell(script: &str, limit: Duration) -> Result<(), String> {
        let run = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
        let sent = send_within(&Settings { run }, "{\"id\":\"1\"}\n".into(), limit).await;
        sent.map(drop).map_err(|failure| failure.message)
    }

    #[tokio::test]
    async fn it_reads_the_body_and_sees_nothing_else_of_us() {
        let script = "test \"$(cat)\" = '{\"id\":\"1\"}' && test -z \"$(env | grep -v \
            -e ^PATH= -e ^HOME= -e ^LANG= -e ^PWD= -e ^_= -e ^SHLVL= -e ^OLDPWD=)\"";
        assert_eq!(shell(script, TIME_LIMIT).await, Ok(()));
        assert_eq!(shell("exit 0", TIME_LIMIT).await, Ok(()), "it need not read");
    }

    #[tokio::test]
    async fn a_failure_says_the_code_and_what_was_written_and_no_more_than_that() {
        let text = shell("echo out; echo no mail host >&2; exit 3", TIME_LIMIT).await;
        assert_eq!(text, Err("/bin/sh ended with exit status: 3: no mail host out".into()));
        let long = shell("head -c 3000000 /dev/zero | tr '\\0' x; exit 1", TIME_LIMIT).await;
        assert!(long.is_err_and(|text| text.len() < OUTPUT_MAX + 100));
        let run = vec!["/nowhere/at all".to_owned()];
        let none =
            send_within(&Settings { run }, String::new(), TIME_LIMIT).await.expect_err("not there");
        assert!(none.message.starts_with("/nowhere/at all cannot be run: "), "{none}");
    }

    #[tokio::test]
    async fn one_that_is_stuck_is_killed_with_all_it_started() {
        let directory = tempfile::tempdir().expect("a directory");
        let mark = directory.path().join("late");
        let script = format!("(sleep 2; touch {}) & echo waiting; sleep 60", mark.display());
        let stuck = shell(&script, Duration::from_secs(1)).await;
        assert_eq!(stuck, Err("/bin/sh was killed after 1 s: waiting".into()));
        let left = format!("(sleep 60) & touch {}", mark.display());
        assert_eq!(shell(&left, TIME_LIMIT).await, Ok(()), "what it left behind is not waited for");
        assert!(mark.exists());
    }
}
