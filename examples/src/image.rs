//! An image made of this very program: no registry and no compiler in a container needed.

use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

/// The demo app's image, made of this program; among processes it is the program itself.
pub const IMAGE: &str = "lb-demo:1";

/// Makes the image with the command `docker` or `podman`: this executable, and the libraries `ldd` names for it.
pub(crate) fn build(engine: &str) -> io::Result<()> {
    let executable = std::env::current_exe()?;
    let directory = tempfile::tempdir()?;
    copy(&executable, &directory.path().join("demo"))?;
    for library in libraries(&executable)? {
        copy(Path::new(&library), &directory.path().join(library.trim_start_matches('/')))?;
    }
    let mut tar = Command::new("tar")
        .arg("-C")
        .arg(directory.path())
        .args(["-c", "."])
        .stdout(Stdio::piped())
        .spawn()?;
    let contents = tar.stdout.take().ok_or_else(|| io::Error::other("tar has no output"))?;
    let entry = r#"ENTRYPOINT ["/demo", "serve"]"#;
    let import = Command::new(engine)
        .args(["import", "--change", entry, "-", IMAGE])
        .stdin(contents)
        .output()?;
    if tar.wait()?.success() && import.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&import.stderr);
    let said = said.trim();
    Err(io::Error::other(format!(
        "{engine} import {IMAGE}: {said} (is DOCKER_HOST or CONTAINER_HOST right?)"
    )))
}

/// The absolute paths in `ldd`'s answer: `libc.so.6 => /lib/.../libc.so.6 (0x...)`; none for a static program.
fn libraries(executable: &Path) -> io::Result<Vec<String>> {
    let answer = Command::new("ldd").arg(executable).output()?;
    let text = String::from_utf8_lossy(&answer.stdout).into_owned();
    let path =
        |line: &str| line.split_whitespace().find(|word| word.starts_with('/')).map(str::to_owned);
    Ok(text.lines().filter_map(path).collect())
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    if let Some(parent) = to.parent() {
        std::fs::create_dir_all(parent)?;
    }
    std::fs::copy(from, to).map(|_| ())
}
