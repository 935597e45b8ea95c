//! The program's end, as an engine asks for it: by SIGTERM.
#![cfg(unix)]
#![allow(clippy::unwrap_used)] // helpers of tests

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};

struct Program {
    child: Child,
    log: BufReader<ChildStderr>,
    port: u16,
}

impl Program {
    fn start(variables: &[(&str, &str)]) -> Self {
        // Free at this moment; nothing else on this machine asks for this very port.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut child = Command::new(env!("CARGO_BIN_EXE_demo-app"))
            .env_clear()
            .envs([("BIND", "127.0.0.1"), ("PORT", &port.to_string())])
            .envs(variables.iter().copied())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        Self { child, log, port }
    }

    fn wait_for_line(&mut self, word: &str) {
        let mut line = String::new();
        while !line.contains(word) {
            line.clear();
            assert_ne!(self.log.read_line(&mut line).unwrap(), 0, "it ended before {word:?}");
        }
    }

    /// Sends a request and waits until the app has taken it up.
    fn request(&self, path: &str) -> TcpStream {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        write!(stream, "POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n").unwrap();
        write!(stream, "Expect: 100-continue\r\n\r\n").unwrap();
        let mut interim = [0; 25];
        stream.read_exact(&mut interim).unwrap();
        assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
        stream
    }

    fn terminate(&self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", "TERM", &pid]).status().unwrap().success());
    }

    fn end(mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It has usually ended; a failed test must not leave it behind.
        let _ = self.child.kill();
    }
}

#[test]
fn it_stops_at_once_and_cuts_what_is_in_flight() {
    let mut program = Program::start(&[]);
    program.wait_for_line("listening");
    let mut stream = program.request("/echo");
    program.terminate();
    assert_eq!(stream.read(&mut [0; 64]).unwrap_or(0), 0, "an answer came");
    assert!(program.end().success());
}

#[test]
fn asked_to_be_graceful_it_finishes_what_is_in_flight() {
    let mut program = Program::start(&[("STOP", "graceful")]);
    program.wait_for_line("listening");
    let mut stream = program.request("/echo");
    program.terminate();
    while TcpStream::connect(("127.0.0.1", program.port)).is_ok() {}
    stream.write_all(b"done").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("done"), "{answer}");
    assert!(program.end().success());
}

#[test]
fn it_can_be_stopped_before_it_listens() {
    let mut program = Program::start(&[("START_DELAY_MS", "3600000")]);
    program.wait_for_line("starting");
    assert!(TcpStream::connect(("127.0.0.1", program.port)).is_err());
    program.terminate();
    assert!(program.end().success());
}

#[test]
fn a_setting_that_does_not_parse_ends_it_with_the_reason() {
    let mut program = Program::start(&[("WORK_US", "much")]);
    program.wait_for_line("WORK_US=much: must be microseconds");
    assert!(!program.end().success());
}

#[test]
fn told_to_fail_it_ends_with_the_code_before_it_listens_or_while_it_serves() {
    let mut at_once = Program::start(&[("EXIT_AFTER_MS", "0"), ("EXIT_CODE", "3")]);
    at_once.wait_for_line("failing as told, with 3");
    assert_eq!(at_once.end().code(), Some(3));

    let mut later = Program::start(&[("EXIT_AFTER_MS", "300")]);
    later.wait_for_line("listening");
    later.wait_for_line("failing as told");
    assert_eq!(later.end().code(), Some(1));
}
