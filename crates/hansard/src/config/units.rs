//! Spans of time as people write them.

/// `90s`, `15m`, `12h`, `30d`, `7y` in seconds.
pub fn duration_secs(text: &str) -> Result<i64, String> {
    let wrong = || format!("'{text}' is no span of time; write a number and s, m, h, d or y, such as '30d'");
    let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(wrong)?;
    let each = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        "y" => 366 * 86_400,
        _ => return Err(wrong()),
    };
    let number: i64 = number.parse().ok().filter(|number| *number > 0).ok_or_else(wrong)?;
    number.checked_mul(each).filter(|secs| *secs < 1000 * 366 * 86_400).ok_or_else(wrong)
}

/// `512`, `64KiB`, `256MiB`, `1GiB`, `5GB` in bytes.
pub fn bytes(text: &str) -> Result<u64, String> {
    let wrong = || {
        format!("'{text}' is no number of bytes; write a number and KiB, MiB, GiB or TiB, such as '256MiB'")
    };
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let each: u64 = match unit {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        _ => return Err(wrong()),
    };
    number.parse::<u64>().ok().and_then(|number| number.checked_mul(each)).ok_or_else(wrong)
}

/// Seconds as `3d 4h`, for people.
pub fn days_text(secs: i64) -> String {
    match secs {
        ..0 => "over".to_owned(),
        0..60 => format!("{secs}s"),
        60..3600 => format!("{}m", secs / 60),
        3600..86_400 => format!("{}h {}m", secs / 3600, secs % 3600 / 60),
        _ => format!("{}d {}h", secs / 86_400, secs % 86_400 / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read() {
        assert_eq!((bytes("256MiB"), bytes("0"), bytes("5GB")), (Ok(268_435_456), Ok(0), Ok(5_000_000_000)));
        for wrong in ["", "MiB", "-1", "1.5GiB", "3 MiB", "99999999999TiB", "1mb"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn spans_are_read() {
        assert_eq!(duration_secs("30d"), Ok(2_592_000));
        assert_eq!(duration_secs("12h"), Ok(43_200));
        for wrong in ["", "d", "3", "-1d", "0d", "1.5h", "3 d", "9999999999999y", "3w"] {
            assert!(duration_secs(wrong).is_err(), "{wrong}");
        }
    }
}
