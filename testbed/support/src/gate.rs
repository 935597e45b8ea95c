//! A unix socket before an engine's own, through which nothing passes while it is shut: the engine seems stalled
//! to whoever comes this way, and to nobody else.

use std::io;
use std::path::{Path, PathBuf};

use lb_core::conformance::Stalled;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;

/// Open at first.
#[derive(Debug)]
pub struct Gate {
    folder: TempDir,
    open: watch::Sender<bool>,
}

impl Default for Gate {
    fn default() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), open: watch::Sender::new(true) }
    }
}

impl Gate {
    /// The socket that leads to this one. It can be had once, and ends with the runtime it was made on.
    pub fn before(&self, engine: &Path) -> PathBuf {
        let socket = self.folder.path().join("s");
        let listener = UnixListener::bind(&socket).unwrap();
        let (engine, open) = (engine.to_owned(), self.open.subscribe());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(lead(client, engine.clone(), open.clone()));
            }
        });
        socket
    }

    pub fn shut(&self) -> Stalled {
        self.open.send_replace(false);
        let open = self.open.clone();
        Stalled::until(move || {
            open.send_replace(true);
        })
    }
}

/// One connection, both ways.
async fn lead(client: UnixStream, engine: PathBuf, open: watch::Receiver<bool>) -> io::Result<()> {
    let (from_client, to_client) = client.into_split();
    let (from_engine, to_engine) = UnixStream::connect(engine).await?.into_split();
    let asks = pass(from_client, to_engine, open.clone());
    let answers = pass(from_engine, to_client, open);
    tokio::try_join!(asks, answers).map(drop)
}

/// What has come waits while the gate is shut, and so does the end.
async fn pass(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut open: watch::Receiver<bool>,
) -> io::Result<()> {
    let mut bytes = vec![0; 16 << 10];
    loop {
        let count = from.read(&mut bytes).await?;
        // The setup that could open it has ended: nobody listens any more.
        open.wait_for(|open| *open).await.map_err(io::Error::other)?;
        if count == 0 {
            return to.shutdown().await;
        }
        to.write_all(&bytes[..count]).await?;
    }
}
