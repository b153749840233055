//! Other programs that upload to S3, as their manuals say to call them.
//!
//! Looked for in the directories of `DROPFERRY_BENCH_TOOLS`, then where `benches/upload/peers` and
//! `tests/servers/install` install them, then on the path.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::files::Work;

/// One program, called one way.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer {
    /// As the table shows it.
    pub(crate) name: &'static str,
    program: &'static str,
    way: Way,
    /// The way is meant for files of this kind alone.
    pub(crate) only: Option<Only>,
    /// What it digests, over HTTP, by its own request headers and manual.
    pub(crate) digests: &'static str,
}

/// What a way to call a program is meant for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Only {
    /// A large file.
    Large,
    /// Thousands of small ones.
    Small,
}

#[derive(Debug, Clone, Copy)]
enum Way {
    Aws,
    AwsCrt,
    Rclone(&'static [&'static str]),
    S3cmd,
    S5cmd,
}

/// All that are known.
pub(crate) const ALL: [Peer; 7] = [
    Peer { name: "awscrt", program: "python3", way: Way::AwsCrt, only: None, digests: "none" },
    Peer { name: "s5cmd", program: "s5cmd", way: Way::S5cmd, only: None, digests: "MD5, SHA-256" },
    Peer {
        name: "rclone, tuned for size",
        program: "rclone",
        way: Way::Rclone(&[
            "--s3-chunk-size=8M",
            "--s3-upload-concurrency=8",
            "--s3-disable-checksum",
        ]),
        only: Some(Only::Large),
        digests: "MD5, SHA-256",
    },
    Peer {
        name: "rclone, tuned for number",
        program: "rclone",
        way: Way::Rclone(&[
            "--transfers=32",
            "--s3-no-head",
            "--no-check-dest",
            "--s3-no-check-bucket",
        ]),
        only: Some(Only::Small),
        digests: "MD5, SHA-256",
    },
    Peer {
        name: "rclone",
        program: "rclone",
        way: Way::Rclone(&[]),
        only: None,
        digests: "MD5 of the file, MD5, SHA-256",
    },
    Peer { name: "s3cmd", program: "s3cmd", way: Way::S3cmd, only: None, digests: "MD5, SHA-256" },
    Peer {
        name: "aws s3 cp",
        program: "aws",
        way: Way::Aws,
        only: None,
        digests: "CRC32, SHA-256",
    },
];

/// Where a peer is to send what.
pub(crate) struct Task<'a> {
    /// The files.
    pub(crate) work: &'a Work,
    /// Such as `127.0.0.1:4711`.
    pub(crate) address: &'a str,
    /// Of the far side, where it speaks TLS.
    pub(crate) certificate: Option<&'a Path>,
    /// A directory that the peer may leave things in.
    pub(crate) home: &'a Path,
}

impl Task<'_> {
    fn base_url(&self) -> String {
        let scheme = if self.certificate.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// The one file, where there is but one.
    fn file(&self) -> Option<PathBuf> {
        let [(name, _)] = self.work.files.as_slice() else { return None };
        Some(self.work.directory.join(name))
    }

    /// The one file, or the directory with a slash behind it.
    fn source(&self) -> PathBuf {
        self.file().unwrap_or_else(|| self.work.directory.join(""))
    }

    fn target(&self, scheme: &str) -> String {
        let name = self.file().and_then(|file| Some(file.file_name()?.display().to_string()));
        format!("{scheme}bench/{}", name.unwrap_or_else(|| "p/".to_owned()))
    }
}

impl Peer {
    /// Returns where it is; `None` when it is not on this machine.
    pub(crate) fn find(&self) -> Option<PathBuf> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let given = std::env::var_os("DROPFERRY_BENCH_TOOLS").unwrap_or_default();
        let here = ["target/peers/bin", "target/servers/venv/bin"].map(|place| root.join(place));
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut places =
            std::env::split_paths(&given).chain(here).chain(std::env::split_paths(&path));
        places.find_map(|place| {
            let program = place.join(self.program);
            let is_there = match self.way {
                Way::AwsCrt => {
                    let asked = Command::new(&program).args(["-c", "import awscrt"]).output();
                    program.is_file() && asked.is_ok_and(|output| output.status.success())
                }
                Way::Aws | Way::Rclone(_) | Way::S3cmd | Way::S5cmd => {
                    program.is_file() && !place.as_os_str().is_empty()
                }
            };
            is_there.then_some(program)
        })
    }

    /// Returns the command that uploads.
    pub(crate) fn command(&self, program: &Path, task: &Task<'_>) -> std::io::Result<Command> {
        let mut command = Command::new(program);
        command
            .current_dir(task.home)
            .env("HOME", task.home)
            .env("NO_PROXY", "127.0.0.1")
            .env("AWS_ACCESS_KEY_ID", "bench")
            .env("AWS_SECRET_ACCESS_KEY", "bench-secret")
            .env("AWS_REGION", "us-east-1")
            .env("AWS_DEFAULT_REGION", "us-east-1")
            .env("AWS_EC2_METADATA_DISABLED", "true");
        if let Some(certificate) = task.certificate {
            command.env("SSL_CERT_FILE", certificate).env("AWS_CA_BUNDLE", certificate);
        }
        match self.way {
            Way::Aws => aws(&mut command, task),
            Way::AwsCrt => awscrt(&mut command, task),
            Way::Rclone(options) => rclone(&mut command, task, options),
            Way::S3cmd => s3cmd(&mut command, task)?,
            Way::S5cmd => {
                command.arg("--endpoint-url").arg(task.base_url()).arg("cp");
                command.arg(task.source()).arg(task.target("s3://"));
            }
        }
        Ok(command)
    }
}

fn aws(command: &mut Command, task: &Task<'_>) {
    command.arg("--endpoint-url").arg(task.base_url()).args(["s3", "cp", "--only-show-errors"]);
    if task.file().is_none() {
        command.arg("--recursive");
    }
    command.arg(task.source()).arg(task.target("s3://"));
}

fn awscrt(command: &mut Command, task: &Task<'_>) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/upload/crt.py");
    command.arg(script).arg(task.address).arg(&task.work.directory);
    command.args(task.certificate);
}

fn rclone(command: &mut Command, task: &Task<'_>, options: &[&str]) {
    command
        .env("RCLONE_CONFIG", "/dev/null")
        .env("RCLONE_S3_PROVIDER", "Other")
        .env("RCLONE_S3_ENV_AUTH", "true")
        .env("RCLONE_S3_ENDPOINT", task.base_url())
        .env("RCLONE_S3_REGION", "us-east-1")
        .env("RCLONE_S3_FORCE_PATH_STYLE", "true");
    command.arg(if task.file().is_some() { "copyto" } else { "copy" }).args(options);
    if let Some(certificate) = task.certificate {
        command.arg("--ca-cert").arg(certificate);
    }
    command.arg(task.source()).arg(task.target(":s3:"));
}

fn s3cmd(command: &mut Command, task: &Task<'_>) -> std::io::Result<()> {
    let settings = task.home.join("s3cmd.cfg");
    let (is_https, ca) = match task.certificate {
        Some(certificate) => ("True", certificate.display().to_string()),
        None => ("False", String::new()),
    };
    let text = format!(
        "[default]\naccess_key = bench\nsecret_key = bench-secret\nhost_base = {address}\n\
         host_bucket = {address}\nuse_https = {is_https}\nca_certs_file = {ca}\n\
         bucket_location = us-east-1\n",
        address = task.address
    );
    std::fs::write(&settings, text)?;
    command.arg("--config").arg(settings).args(["put", "--quiet", "--no-progress"]);
    if task.file().is_none() {
        command.arg("--recursive");
    }
    command.arg(task.source()).arg(task.target("s3://"));
    Ok(())
}
