//! Proxies whose URL stands in a file.

use super::Error;
use crate::config::{Config, Proxy, ProxySource};
use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read},
    path::Path,
};

/// No URL is longer.
const MAX_BYTES: u64 = 4096;

/// All of a network, by their names.
pub(super) fn read(config: &Config) -> Result<BTreeMap<String, Proxy>, Error> {
    let one = |(name, source): (&String, &ProxySource)| {
        let proxy = match source {
            ProxySource::Url(proxy) => proxy.clone(),
            ProxySource::File(file) => read_file(file).map_err(|why| Error::Proxy {
                proxy: name.clone(),
                file: file.clone(),
                why,
            })?,
        };
        Ok((name.clone(), proxy))
    };
    config.proxies.iter().map(one).collect()
}

/// What is wrong is said without what the file has: it may be a password.
fn read_file(path: &Path) -> Result<Proxy, String> {
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(MAX_BYTES + 1).read_to_string(&mut text));
    match read {
        Err(error) if error.kind() == io::ErrorKind::InvalidData => return Err("it is no text".to_owned()),
        Err(error) => return Err(error.to_string()),
        Ok(_) if text.len() as u64 > MAX_BYTES => return Err("it is longer than any URL".to_owned()),
        Ok(_) => {}
    }
    text.trim_end_matches(['\r', '\n']).parse().map_err(|error| format!("{error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_a_url_and_nothing_is_told_of_it() {
        let file = std::env::temp_dir().join(format!("reprise-proxy-{}", std::process::id()));
        let text = format!("proxies = {{ a = \"file:{}\", b = \"http://b:2\" }}", file.display());
        let config = Config::read(toml::Deserializer::parse(&text).unwrap()).unwrap();
        let of = |content: &[u8]| {
            std::fs::write(&file, content).unwrap();
            read(&config)
        };
        let proxies = of(b"socks5://me:secret@proxy.test:1080\n").unwrap();
        assert_eq!(proxies["a"], "socks5://me:secret@proxy.test:1080".parse().unwrap());
        assert_eq!(proxies["b"].port, 2);
        for (content, why) in [
            (b"" as &[u8], "nothing says what it speaks"),
            (b"socks5://me:secret@proxy.test:1080\nsecret", "its port is no port"),
            (b"secret\xff", "it is no text"),
            (&[b'x'; 5000], "longer than any URL"),
        ] {
            let error = of(content).unwrap_err().to_string();
            assert!(error.starts_with("proxy `a`: file ") && error.contains(why), "{error}");
            assert!(!error.contains("secret"), "{error}");
        }
        std::fs::remove_file(&file).unwrap();
        assert!(read(&config).unwrap_err().to_string().contains("No such file"));
    }
}
