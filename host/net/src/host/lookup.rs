//! Names of proxies, which the host's resolver looks up: on threads of their own, as it may take as long as it likes.

use crate::config::Proxy;
use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, SocketAddr, ToSocketAddrs},
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

/// How long an answer holds: names move, and nobody says so.
const LIFE: Duration = Duration::from_secs(60);

/// Addresses of one name that are tried.
const MOST: usize = 16;

/// Looks a name up, and waits for it: its addresses, best first, at least one.
pub(super) type Resolver = fn(&str, u16) -> io::Result<Vec<SocketAddr>>;

/// By the host's own rules: `/etc/hosts`, then its name servers.
pub(super) fn by_host(name: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let all: Vec<_> = (name, port).to_socket_addrs()?.take(MOST).collect();
    if all.is_empty() { Err(io::ErrorKind::NotFound.into()) } else { Ok(all) }
}

enum Entry {
    /// A thread is at it.
    Asked,
    Known(Vec<SocketAddr>, Instant),
}

/// A proxy's name, by the name of the proxy: what it came to.
pub(super) type Found = (String, io::Result<Vec<SocketAddr>>);

/// What is known, and what is being asked: at most one thread for each proxy.
pub(super) struct Lookups {
    resolver: Resolver,
    /// Lets the network's thread look again.
    wake: Arc<dyn Fn() + Send + Sync>,
    entries: BTreeMap<String, Entry>,
    answer: mpsc::Sender<Found>,
    answers: mpsc::Receiver<Found>,
}

impl Lookups {
    pub(super) fn new(resolver: Resolver, wake: Arc<dyn Fn() + Send + Sync>) -> Self {
        let (answer, answers) = mpsc::channel();
        Self { resolver, wake, entries: BTreeMap::new(), answer, answers }
    }

    /// Where the proxy is; `None`: it is being asked, and [`Lookups::found`] will say.
    pub(super) fn look_up(&mut self, name: &str, proxy: &Proxy) -> io::Result<Option<Vec<SocketAddr>>> {
        if let Ok(ip) = proxy.host.parse::<IpAddr>() {
            return Ok(Some(vec![SocketAddr::new(ip, proxy.port)]));
        }
        match self.entries.get(name) {
            Some(Entry::Asked) => return Ok(None),
            Some(Entry::Known(all, until)) if Instant::now() < *until => return Ok(Some(all.clone())),
            Some(Entry::Known(..)) | None => {}
        }
        let (resolver, wake, answer) = (self.resolver, Arc::clone(&self.wake), self.answer.clone());
        let (of, host, port) = (name.to_owned(), proxy.host.clone(), proxy.port);
        // Nobody waits for its end: a resolver that hangs must not keep the network from ending.
        std::thread::Builder::new().name("lookup".to_owned()).spawn(move || {
            // The network may be gone.
            let _gone = answer.send((of, resolver(&host, port)));
            wake();
        })?;
        self.entries.insert(name.to_owned(), Entry::Asked);
        Ok(None)
    }

    /// The next answer that has come.
    pub(super) fn found(&mut self) -> Option<Found> {
        let (name, found) = self.answers.try_recv().ok()?;
        match &found {
            Ok(all) => {
                self.entries.insert(name.clone(), Entry::Known(all.clone(), Instant::now() + LIFE));
            }
            // The next connection asks again.
            Err(_) => drop(self.entries.remove(&name)),
        }
        Some((name, found))
    }
}
