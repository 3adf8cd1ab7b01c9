//! Sizes and durations: `"256M"`, `"100us"`.

/// Bytes from an integer with an optional binary unit: `4096`, `"64K"`, `"256M"`, `"1GiB"`.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let (number, unit) = split(text)?;
    let shift = match unit.trim_end_matches("iB") {
        "" | "B" => 0,
        "K" | "k" => 10,
        "M" | "m" => 20,
        "G" | "g" => 30,
        "T" | "t" => 40,
        _ => return Err(format!("`{unit}` is no unit of size; they are K, M, G and T")),
    };
    number.checked_mul(1 << shift).ok_or_else(|| "too large for 64 bits".to_owned())
}

/// Nanoseconds from an integer with a unit: `"100us"`, `"2ms"`, `"1s"`.
pub(super) fn duration_ns(text: &str) -> Result<u64, String> {
    let (number, unit) = split(text)?;
    let factor = match unit {
        "ns" => 1,
        "us" | "µs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "" => return Err("it has no unit; they are ns, us, ms and s".to_owned()),
        _ => return Err(format!("`{unit}` is no unit of time; they are ns, us, ms and s")),
    };
    number.checked_mul(factor).ok_or_else(|| "too large for 64 bits".to_owned())
}

fn split(text: &str) -> Result<(u64, &str), String> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    if digits.is_empty() {
        return Err("it does not start with a number".to_owned());
    }
    let number = digits.parse().map_err(|_| "too large for 64 bits".to_owned())?;
    let unit = unit.trim_start();
    if unit.starts_with('.') {
        return Err("fractions are not taken; use a smaller unit".to_owned());
    }
    Ok((number, unit))
}

/// The shortest way to write a size exactly.
pub(super) fn print_size(bytes: u64) -> String {
    [(40, "T"), (30, "G"), (20, "M"), (10, "K")]
        .into_iter()
        .find(|(shift, _)| bytes != 0 && bytes.is_multiple_of(1 << shift))
        .map_or_else(|| bytes.to_string(), |(shift, unit)| format!("{}{unit}", bytes >> shift))
}

/// The shortest way to write a duration exactly.
pub(super) fn print_duration(ns: u64) -> String {
    [(1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "us")]
        .into_iter()
        .find(|(factor, _)| ns != 0 && ns.is_multiple_of(*factor))
        .map_or_else(|| format!("{ns}ns"), |(factor, unit)| format!("{}{unit}", ns / factor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(size("4096"), Ok(4096));
        assert_eq!(size("256M"), Ok(256 << 20));
        assert_eq!(size(" 1 GiB "), Ok(1 << 30));
        assert!(size("1.5G").unwrap_err().contains("fractions"));
        assert!(size("lots").unwrap_err().contains("number"));
        assert!(size("3X").unwrap_err().contains("`X`"));
        assert!(size("99999999999999999999").unwrap_err().contains("64 bits"));
        assert!(size("16777216T").unwrap_err().contains("64 bits"));
    }

    #[test]
    fn durations() {
        assert_eq!(duration_ns("100us"), Ok(100_000));
        assert_eq!(duration_ns("2 s"), Ok(2_000_000_000));
        assert!(duration_ns("5").unwrap_err().contains("no unit"));
        assert!(duration_ns("5min").unwrap_err().contains("`min`"));
    }

    #[test]
    fn printing_is_exact() {
        for n in [0, 1, 1023, 1024, 3 << 20, 5 << 30, u64::MAX] {
            assert_eq!(size(&print_size(n)), Ok(n));
            assert_eq!(duration_ns(&print_duration(n)), Ok(n));
        }
    }
}
