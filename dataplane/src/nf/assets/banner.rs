//! Which system speaks, by what it calls itself: words of greetings and of names of software.

/// Bytes of a line that are looked through, at most: more than a [`Name`](super::Name) has.
const LOOKED_THROUGH: usize = 160;

/// A word of the table, by its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Word(u8);

/// Words, and the system whose software has them in its names. The first that is there counts, so
/// those that others have in them, or that say more, stand before them. Systems are called as in
/// the table of signatures, where that has them.
const WORDS: [(&str, &str); 48] = [
    ("Raspbian", "Linux (Raspbian)"),
    // Before Debian, whose package manager has its name from there.
    ("Ubuntu", "Linux (Ubuntu)"),
    ("ubuntu", "Linux (Ubuntu)"),
    ("Debian", "Linux (Debian)"),
    ("CentOS", "Linux (CentOS)"),
    ("Red Hat", "Linux (Red Hat)"),
    ("Fedora", "Linux (Fedora)"),
    ("SUSE", "Linux (SUSE)"),
    ("Gentoo", "Linux (Gentoo)"),
    ("Alpine", "Linux (Alpine)"),
    ("OpenWrt", "Linux (OpenWrt)"),
    ("Tizen", "Linux (Tizen)"),
    // Before the Linux that it is.
    ("Android", "Linux (Android)"),
    ("android-dhcp", "Linux (Android)"),
    ("CrOS", "Linux (ChromeOS)"),
    ("FreeBSD", "FreeBSD"),
    ("OpenBSD", "OpenBSD"),
    ("NetBSD", "NetBSD"),
    ("SunOS", "Solaris"),
    ("Solaris", "Solaris"),
    ("RouterOS", "MikroTik RouterOS"),
    ("ROSSSH", "MikroTik RouterOS"),
    ("Cisco-1.", "Cisco IOS"),
    ("cisco-IOS", "Cisco IOS"),
    // Before the macOS that those of a telephone say to be like.
    ("iPhone", "macOS or iOS"),
    ("iPad", "macOS or iOS"),
    ("Macintosh", "macOS or iOS"),
    ("Mac OS X", "macOS or iOS"),
    ("Darwin", "macOS or iOS"),
    ("Microsoft-IIS/10.0", "Windows 10, Server 2016 or later"),
    ("Microsoft-IIS/8.5", "Windows 8.1 or Server 2012 R2"),
    ("Microsoft-IIS/8.0", "Windows 8 or Server 2012"),
    ("Microsoft-IIS/7.5", "Windows 7 or Server 2008 R2"),
    ("Microsoft-IIS/7.0", "Windows Vista or Server 2008"),
    ("Microsoft-IIS/6.0", "Windows XP or Server 2003"),
    ("Microsoft-IIS/5.", "Windows 2000 or XP"),
    ("Windows NT 10.0", "Windows 10 or 11"),
    ("Windows NT 6.", "Windows Vista to 8.1"),
    ("Windows NT 5.", "Windows 2000 or XP"),
    ("for_Windows", "Windows"),
    ("Windows", "Windows"),
    ("Win32", "Windows"),
    ("Win64", "Windows"),
    ("MSFT 5.0", "Windows"),
    ("Microsoft", "Windows"),
    ("Linux", "Linux"),
    ("linux-gnu", "Linux"),
    ("GNU/Hurd", "GNU Hurd"),
];

/// Of each byte, the words that begin with it: a bit for each place of the table.
static BEGIN: [u64; 256] = {
    assert!(WORDS.len() <= u64::BITS as usize);
    let mut begin = [0; 256];
    let mut place = 0;
    while place < WORDS.len() {
        begin[WORDS[place].0.as_bytes()[0] as usize] |= 1 << place;
        place += 1;
    }
    begin
};

impl Word {
    /// As it stands in names.
    pub(super) fn text(self) -> &'static str {
        WORDS[usize::from(self.0)].0
    }

    /// The system that it tells.
    pub(super) fn system(self) -> &'static str {
        WORDS[usize::from(self.0)].1
    }
}

/// The first word of the table that is anywhere in a text, of which each byte is looked at once.
pub(super) fn find(text: &[u8]) -> Option<Word> {
    let text = &text[..text.len().min(LOOKED_THROUGH)];
    let mut found = None;
    // Those that stand before the one that was found.
    let mut wanted = u64::MAX;
    for (at, byte) in text.iter().enumerate() {
        let mut may_be = BEGIN[usize::from(*byte)] & wanted;
        while may_be != 0 {
            let word = Word(may_be.trailing_zeros() as u8);
            if text[at..].starts_with(word.text().as_bytes()) {
                found = Some(word);
                wanted = (1 << word.0) - 1;
                break;
            }
            may_be &= may_be - 1;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same in the simplest way.
    fn naive(text: &[u8]) -> Option<Word> {
        let has = |word: &str| text.windows(word.len()).any(|part| part == word.as_bytes());
        WORDS.iter().position(|(word, _)| has(word)).map(|place| Word(place as u8))
    }

    #[test]
    fn systems_are_told_by_the_names_of_their_software() {
        let browser = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36";
        let telephone = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X)";
        for (name, expected) in [
            ("OpenSSH_9.2p1 Debian-2+deb12u2", Some("Linux (Debian)")),
            ("OpenSSH_8.9p1 Ubuntu-3ubuntu0.10", Some("Linux (Ubuntu)")),
            ("OpenSSH_9.6 FreeBSD-20240701", Some("FreeBSD")),
            ("OpenSSH_for_Windows_8.1", Some("Windows")),
            ("Apache/2.4.52 (Ubuntu)", Some("Linux (Ubuntu)")),
            ("Microsoft-IIS/8.5", Some("Windows 8.1 or Server 2012 R2")),
            ("Debian APT-HTTP/1.3 (1.6.12ubuntu0.2)", Some("Linux (Ubuntu)")),
            ("Debian APT-HTTP/1.3 (2.2.4)", Some("Linux (Debian)")),
            ("Mozilla/5.0 (Linux; Android 14; Pixel 8)", Some("Linux (Android)")),
            ("Mozilla/5.0 (X11; Linux x86_64; rv:120.0)", Some("Linux")),
            (browser, Some("Windows 10 or 11")),
            (telephone, Some("macOS or iOS")),
            ("Microsoft Office/16.0 (Macintosh)", Some("macOS or iOS")),
            ("nginx", None),
            ("curl/8.5.0", None),
            ("OpenSSH_9.2p1", None),
        ] {
            assert_eq!(find(name.as_bytes()).map(Word::system), expected, "{name}");
        }
    }

    #[test]
    fn each_word_is_found_before_those_that_say_less() {
        for (word, system) in WORDS {
            let found = find(word.as_bytes()).map(|found| (found.text(), found.system()));
            assert_eq!(found, Some((word, system)));
        }
    }

    #[test]
    fn the_same_is_found_as_by_looking_for_one_word_after_the_other() {
        let mut rng = weir_seed::rng();
        let mut places = [0; WORDS.len()];
        for _ in 0..20_000 {
            let mut text = Vec::new();
            for _ in 0..rng.usize(..6) {
                // Whole words, and parts of them that may become another together.
                let word = WORDS[rng.usize(..WORDS.len())].0.as_bytes();
                let end = if rng.bool() { word.len() } else { rng.usize(..=word.len()) };
                let from = if rng.u8(..4) > 0 { 0 } else { rng.usize(..=end) };
                text.extend_from_slice(&word[from..end]);
            }
            text.truncate(LOOKED_THROUGH);
            let found = find(&text);
            assert_eq!(found, naive(&text), "{}", text.escape_ascii());
            found.into_iter().for_each(|word| places[usize::from(word.0)] += 1);
        }
        assert!(places.iter().all(|found| *found > 0), "{places:?}");
    }

    #[test]
    fn so_much_of_a_line_is_looked_through() {
        let line = |before: usize| [&vec![b'x'; before][..], b"Debian"].concat();
        assert_eq!(find(&line(LOOKED_THROUGH - 6)).map(Word::text), Some("Debian"));
        assert_eq!(find(&line(LOOKED_THROUGH - 5)), None);
    }
}
