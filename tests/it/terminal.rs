//! A terminal under control of the test: tmux, with a server of its own.

use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use crate::skipped::skipped;

const TMUX: &str = "/usr/bin/tmux";
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// A wait of a minute and a half.
const LOOKS_MAX: u32 = 4500;

/// It ends with the test.
pub(crate) struct Terminal {
    directory: tempfile::TempDir,
}

impl Terminal {
    /// Runs a command line in a terminal of this many columns and rows, or reports that the test is
    /// skipped. After its end, its exit code and the settings of the terminal are shown.
    #[track_caller]
    pub(crate) fn start(columns: u16, rows: u16, command: &str) -> Option<Self> {
        if !Path::new(TMUX).exists() {
            skipped("tmux is not installed");
            return None;
        }
        let directory = tempfile::tempdir().expect("a directory");
        let settings = "set -g status off\nset -g default-terminal tmux-256color\n";
        std::fs::write(directory.path().join("tmux.conf"), settings).expect("written");
        let terminal = Self { directory };
        let line = format!("echo before; {command}; echo \"ended with $?\"; stty -a; exec cat");
        let (columns, rows) = (columns.to_string(), rows.to_string());
        terminal.run(&["new-session", "-d", "-x", &columns, "-y", &rows, "sh", "-c", &line]);
        Some(terminal)
    }

    fn output(&self, arguments: &[&str]) -> Output {
        Command::new(TMUX)
            .arg("-u")
            .arg("-S")
            .arg(self.directory.path().join("socket"))
            .arg("-f")
            .arg(self.directory.path().join("tmux.conf"))
            .args(arguments)
            .env("LC_ALL", "C.UTF-8")
            .env_remove("NO_COLOR")
            .env_remove("COLUMNS")
            .env_remove("TMUX")
            .output()
            .expect("tmux runs")
    }

    fn run(&self, arguments: &[&str]) -> String {
        let Output { status, stdout, stderr } = self.output(arguments);
        let said = String::from_utf8_lossy(&stderr);
        assert!(status.success(), "tmux {arguments:?}: {said}");
        String::from_utf8_lossy(&stdout).into_owned()
    }

    /// Presses keys, by tmux' names for them.
    pub(crate) fn press(&self, keys: &[&str]) {
        self.run(&[&["send-keys"], keys].concat());
    }

    /// Sets the size of the terminal.
    pub(crate) fn resize(&self, columns: u16, rows: u16) {
        let (columns, rows) = (columns.to_string(), rows.to_string());
        self.run(&["resize-window", "-x", &columns, "-y", &rows]);
    }

    /// What is on the screen, with the sequences for its colours.
    pub(crate) fn coloured(&self) -> String {
        self.run(&["capture-pane", "-p", "-e"])
    }

    /// Waits until the screen fulfils the condition.
    pub(crate) fn until(&self, what: &str, is_so: impl Fn(&str) -> bool) -> String {
        self.until_captured(&["capture-pane", "-p"], what, is_so)
    }

    fn until_captured(&self, capture: &[&str], what: &str, is_so: impl Fn(&str) -> bool) -> String {
        let mut screen = String::new();
        for _ in 0..LOOKS_MAX {
            screen = self.run(capture);
            if is_so(&screen) {
                return screen;
            }
            std::thread::sleep(LOOK_INTERVAL);
        }
        panic!("waited in vain until {what}; the screen:\n{screen}");
    }

    /// Waits until a text is on the screen.
    pub(crate) fn until_shown(&self, text: &str) -> String {
        self.until(text, |screen| screen.contains(text))
    }

    /// The command has ended like this, and the terminal is as it was before.
    pub(crate) fn assert_restored(&self, ended: &str) -> String {
        // The shell's output may be longer than the screen.
        let history = ["capture-pane", "-p", "-S", "-200"];
        let is_over = |screen: &str| screen.contains(ended) && screen.contains("icanon");
        let screen = self.until_captured(&history, ended, is_over);
        for word in ["-icanon", "-echo ", "-isig"] {
            assert!(!screen.contains(word), "{word}: {screen}");
        }
        let flags = self.run(&["display-message", "-p", "#{alternate_on} #{cursor_flag}"]);
        assert_eq!(flags.trim(), "0 1", "alternate screen, cursor: {screen}");
        screen
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        drop(self.output(&["kill-server"]));
    }
}
