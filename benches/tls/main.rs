//! Which provider of TLS costs least here: ring and aws-lc, in one run, client and server together.
//!
//! ```text
//! cargo run --release --manifest-path benches/tls/Cargo.toml
//! ```
//! Sends 1 GiB over loopback for each provider and cipher suite in five interleaved rounds, and prints
//! the median of CPU seconds per GB, of both ends. A second table says how often a connection to a
//! server that was met before resumes its session.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use rustix::time::{ClockId, clock_gettime};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, HandshakeKind, RootCertStore, ServerConfig, ServerConnection,
    StreamOwned,
};

const BYTES: usize = 1 << 30;
const PIECE: usize = 64 * 1024;
const ROUNDS: usize = 5;

fn main() {
    let providers = [
        ("ring", rustls::crypto::ring::default_provider()),
        ("aws-lc", rustls::crypto::aws_lc_rs::default_provider()),
    ];
    let suites =
        ["TLS13_AES_256_GCM_SHA384", "TLS13_AES_128_GCM_SHA256", "TLS13_CHACHA20_POLY1305_SHA256"];
    let cases: Vec<_> = providers
        .iter()
        .flat_map(|(name, provider)| {
            suites.iter().map(move |suite| (*name, *suite, only(provider, suite)))
        })
        .collect();
    let mut costs = vec![Vec::new(); cases.len()];
    for _ in 0..ROUNDS {
        for ((_, _, provider), costs) in cases.iter().zip(&mut costs) {
            costs.push(Pair::new(provider).send(BYTES));
        }
    }
    println!("{:<8} {:<32} {:>10}", "provider", "suite", "CPU s/GB");
    for ((name, suite, _), costs) in cases.iter().zip(&mut costs) {
        costs.sort_by(f64::total_cmp);
        println!("{name:<8} {suite:<32} {:>10.2}", costs[ROUNDS / 2]);
    }
    for (name, provider) in &providers {
        let pair = Pair::new(&Arc::new(provider.clone()));
        let kinds: Vec<_> = (0..10).map(|_| pair.meet()).collect();
        let resumed = kinds.iter().filter(|kind| **kind == Some(HandshakeKind::Resumed)).count();
        println!("{name}: {resumed} of {} connections resumed a session", kinds.len());
    }
}

fn only(provider: &CryptoProvider, suite: &str) -> Arc<CryptoProvider> {
    let mut provider = provider.clone();
    provider.cipher_suites.retain(|found| format!("{:?}", found.suite()) == suite);
    Arc::new(provider)
}

/// What both ends need.
struct Pair {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

impl Pair {
    fn new(provider: &Arc<CryptoProvider>) -> Self {
        let made =
            rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        let certificate = CertificateDer::from(made.cert.der().to_vec());
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
        let mut roots = RootCertStore::empty();
        roots.add(certificate.clone()).expect("a root");
        let server = ServerConfig::builder_with_provider(Arc::clone(provider))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .expect("served");
        let client = ClientConfig::builder_with_provider(Arc::clone(provider))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self { server: Arc::new(server), client: Arc::new(client) }
    }

    fn connect(
        &self,
        bytes: usize,
    ) -> (thread::JoinHandle<()>, StreamOwned<ClientConnection, TcpStream>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("listens");
        let address = listener.local_addr().expect("an address");
        let config = Arc::clone(&self.server);
        let served = thread::spawn(move || {
            let (socket, _) = listener.accept().expect("met");
            let connection = ServerConnection::new(config).expect("a server");
            let mut stream = StreamOwned::new(connection, socket);
            let (mut buffer, mut left) = (vec![0; PIECE], bytes);
            while left > 0 {
                left -= stream.read(&mut buffer).expect("read");
            }
            stream.write_all(b"k").expect("answered");
            stream.flush().expect("answered");
        });
        let socket = TcpStream::connect(address).expect("connects");
        let name = ServerName::try_from("localhost").expect("a name");
        let connection = ClientConnection::new(Arc::clone(&self.client), name).expect("a client");
        (served, StreamOwned::new(connection, socket))
    }

    /// Sends so many bytes, and returns the CPU seconds per GB of both ends.
    fn send(&self, bytes: usize) -> f64 {
        let before = cpu();
        let (served, mut stream) = self.connect(bytes);
        let piece = vec![7; PIECE];
        (0..bytes / PIECE).for_each(|_| stream.write_all(&piece).expect("sent"));
        stream.flush().expect("sent");
        stream.read_exact(&mut [0]).expect("answered");
        served.join().expect("served");
        (cpu() - before) * 1e9 / bytes as f64
    }

    /// Meets the server once more.
    fn meet(&self) -> Option<HandshakeKind> {
        let (served, mut stream) = self.connect(1);
        stream.write_all(b"x").expect("sent");
        stream.read_exact(&mut [0]).expect("answered");
        served.join().expect("served");
        stream.conn.handshake_kind()
    }
}

fn cpu() -> f64 {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    now.tv_sec as f64 + now.tv_nsec as f64 / 1e9
}
