//! Connections that can be broken on purpose, and the routes.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use axum::Router;
use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

use super::{Shared, basespace, control, gjirafa_vp, s3, sevenbridges};

/// Serves until aborted.
#[expect(clippy::disallowed_methods, reason = "the sandbox is an island with a server of its own")]
pub(super) fn start(listener: TcpListener, shared: &Arc<Shared>) -> tokio::task::JoinHandle<()> {
    let routes = Router::new()
        .merge(sevenbridges::routes())
        .merge(basespace::routes())
        .merge(gjirafa_vp::routes())
        .merge(s3::routes())
        .merge(control::routes())
        .with_state(Arc::clone(shared));
    let listener = Breaking { listener, shared: Arc::clone(shared) };
    let service = routes.into_make_service_with_connect_info::<Breaker>();
    tokio::spawn(async move {
        // Ends with the task.
        drop(axum::serve(listener, service).await);
    })
}

/// Accepts connections, or closes them at once during a simulated outage.
struct Breaking {
    listener: TcpListener,
    shared: Arc<Shared>,
}

impl Listener for Breaking {
    type Io = Breakable;
    type Addr = std::net::SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let Ok((stream, address)) = self.listener.accept().await else {
                tokio::task::yield_now().await;
                continue;
            };
            if self.shared.is_down() {
                continue;
            }
            stream.set_nodelay(true).ok();
            let broken = Arc::new(AtomicBool::new(false));
            return (Breakable { stream, broken }, address);
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

/// A connection that can be broken.
pub(super) struct Breakable {
    stream: TcpStream,
    broken: Arc<AtomicBool>,
}

/// Breaks the connection of a request.
#[derive(Debug, Clone)]
pub(super) struct Breaker(Arc<AtomicBool>);

impl Breaker {
    /// Lets no further byte pass.
    pub(super) fn break_it(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Connected<IncomingStream<'_, Breaking>> for Breaker {
    fn connect_info(stream: IncomingStream<'_, Breaking>) -> Self {
        Self(Arc::clone(&stream.io().broken))
    }
}

impl Breakable {
    fn check(&self) -> io::Result<()> {
        if self.broken.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        Ok(())
    }
}

impl AsyncRead for Breakable {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check()?;
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Breakable {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check()?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check()?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
