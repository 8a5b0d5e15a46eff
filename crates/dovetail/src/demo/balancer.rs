//! A round-robin forwarder of TCP connections: what IPVS is to a virtual address, and the routing mesh to a
//! published port.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A forwarder. Dropped, it takes no more connections; those that are open go on.
#[derive(Debug)]
pub struct Balancer {
    /// Where it listens.
    pub address: SocketAddr,
    /// Never held across an await.
    targets: Arc<Mutex<Targets>>,
    accepting: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Targets {
    addresses: Vec<SocketAddr>,
    next: usize,
}

impl Balancer {
    /// Forwards what comes to a listener; to nobody, at first.
    pub fn start(listener: TcpListener) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let targets = Arc::new(Mutex::new(Targets::default()));
        let accepting = tokio::spawn(accept(listener, Arc::clone(&targets)));
        Ok(Self { address, targets, accepting })
    }

    /// Forwards new connections to these from now on.
    pub fn set_targets(&self, addresses: Vec<SocketAddr>) {
        self.targets.lock().unwrap_or_else(PoisonError::into_inner).addresses = addresses;
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, targets: Arc<Mutex<Targets>>) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(forward(stream, Arc::clone(&targets)));
    }
}

/// Connects to the next target that takes the connection; without one the client's is closed.
async fn forward(mut client: TcpStream, targets: Arc<Mutex<Targets>>) {
    let in_turn = {
        let mut targets = targets.lock().unwrap_or_else(PoisonError::into_inner);
        targets.next = targets.next.wrapping_add(1);
        let mut addresses = targets.addresses.clone();
        if !addresses.is_empty() {
            let first = targets.next % addresses.len();
            addresses.rotate_left(first);
        }
        addresses
    };
    for target in in_turn {
        if let Ok(mut server) = TcpStream::connect(target).await {
            let _ = copy_bidirectional(&mut client, &mut server).await;
            return;
        }
    }
}
