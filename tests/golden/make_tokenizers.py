#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""5,000 lines and the ids that Hugging Face's tokenizers give them.

  make_tokenizers.py OUT_DIR [MODEL_DIR]  writes lines.txt, and <model>.json and <model>.ids for each
                                          model; minilm.ids if MODEL_DIR holds all-MiniLM-L6-v2
  make_tokenizers.py --check DIR          makes lines and ids again, with the models in DIR, and says
                                          what differs

Needs tokenizers (0.23.3 wrote the files that are there).

lines.txt: a text a line. \\xHH is a byte: a backslash, a control, the end of a line, or a byte that is
no UTF-8. "@N " at the beginning: what follows stands N times.
<model>.ids: for each line the FNV-1a hash of its ids, 32 bits, of four bytes each, the lowest first;
for every tenth that of the text that decode makes of them; and for every hundredth all ids.

No published tokenizer of GPT-2 or Llama 3 comes with a Python package, so their places are taken by
small ones, trained here on the lines with the pre-tokenizer, decoder and options of the family.
"""
import json
import pathlib
import random
import re
import sys

from tokenizers import (AddedToken, Regex, Tokenizer, decoders, models, normalizers,
                        pre_tokenizers, processors, trainers)

COUNT = 5000
WORDS = """the of and to in a is that for it was on are as with his they at be this from have or by
one had not but what all were when we there can an your which their said if do will each about how up
out them then she many some so these would other into has more her two like him see time could no make
than first been its who now people my made over did down only way find use may water long little very
after words called just where most know get through back much go good new write our me man too any day
same right look think also around another came come work three must because does part even place well
such here take why help put different away again off went old number great tell men say small every
found still between name should home big give air line set own under read last never us left end along
while might next sound below saw something thought both few those always show large often together
asked house world going want school important until form food keep children feet land side without boy
once animal life enough took four head above kind began almost live page got earth need far hand high
year mother light country father let night picture being study second soon story since white ever paper
hard near sentence better best across during today however sure knew try told young sun thing whole
hear example heard several change answer room sea against top turned learn point city play toward five
himself usually money seen didn car morning internationalization tokenizer embedding attention
unbelievable transformers gradient electroencephalography counterproductive""".split()
PHRASES = """Tous les êtres humains naissent libres et égaux en dignité et en droits.
Alle Menschen sind frei und gleich an Würde und Rechten geboren; Straße, Größe, Ärger.
Todos los seres humanos nacen libres e iguales en dignidad y derechos: ¿qué? ¡mañana!
Tutti gli esseri umani nascono liberi ed eguali in dignità e diritti; perché, così, più.
Todos os seres humanos nascem livres; não há coração sem emoção.
Wszyscy ludzie rodzą się wolni i równi; zażółć gęślą jaźń.
Všichni lidé rodí se svobodní; příliš žluťoučký kůň úpěl ďábelské ódy.
Minden emberi lény szabadon születik; árvíztűrő tükörfúrógép.
Bütün insanlar hür doğarlar; İstanbul'da ışık, IĞDIR, ılık.
Toate ființele umane se nasc libere și egale; țară, învățământ.
Mọi người sinh ra đều được tự do; Việt Nam, phở, Nguyễn.
Alla människor är födda fria; Åsa åt sju smörgåsar, Ærø, Þór.
Все люди рождаются свободными и равными; ёлка, Йод, Щука.
Усі люди народжуються вільними; їжак, ґанок, Єва.
Όλοι οι άνθρωποι γεννιούνται ελεύθεροι· ΣΟΦΟΣ, Άσκηση, ΐ.
כל בני האדם נולדו בני חורין; שָׁלוֹם עֲלֵיכֶם.
يولد جميع الناس أحراراً متساوين؛ العَرَبِيَّةُ، ٣٫١٤، ﷺ.
تمام افراد بشر آزاد به دنیا می‌آیند؛ می‌خواهم.
सभी मनुष्यों को गौरव और अधिकारों; क़लम, ज़रा, क्षत्रिय।
সমস্ত মানুষ স্বাধীনভাবে; বাংলা, য়, ৎ।
அனைத்து மனிதர்களும் சுதந்திரமாக; தமிழ், கௌரவம்.
మానవులందరూ స్వతంత్రులు; తెలుగు.
มนุษย์ทั้งหลายเกิดมามีอิสระ; น้ำ กำ เกี๊ยว
ມະນຸດທຸກຄົນເກີດມາ; ນ້ຳ
လူတိုင်းသည် တူညီ လွတ်လပ်သော; မြန်မာ
មនុស្សទាំងអស់កើតមក; ភាសាខ្មែរ
ყველა ადამიანი იბადება თავისუფალი; ᲥᲐᲠᲗᲣᲚᲘ
Բոլոր մարդիկ ծնվում են ազատ; և, Երևան։
人人生而自由,在尊严和权利上一律平等。他们赋有理性和良心,㐀𠀀𪜀豈。
人人生而自由﹐在尊嚴和權利上一律平等。
すべての人間は、生まれながらにして自由であり;がぎぐ、ガギグ、カ゚、ｶﾞｷﾞ、ー。
모든 인간은 태어날 때부터 자유로우며; 한글 각 힣
የሰው ልጅ ሁሉ ሲወለድ ነጻና; አማርኛ።
ᏣᎳᎩ ᎦᏬᏂᎯᏍᏗ ꭳꭴ; ᐃᓄᒃᑎᑐᑦ; ᚠᚢᚦᚨᚱᚲ; ⴰⵎⴰⵣⵉⵖ
བོད་སྐད་ ང་རང་; ᠮᠣᠩᠭᠣᠯ ᠪᠢᠴᠢᠭ; ꦗꦮ; ᜆᜄᜎᜓᜄ᜔
ﬁnd the ﬂow of ﬀ, ﬃ and ﬆ; ① ② Ⅷ ½ ㎏ ㋿ ™ ℃ Å K Ω ﷽ ｆｕｌｌ　ｗｉｄｔｈ
x² + y₂ ≤ ∑∫√∞ ≠ ± × ÷ ∀x∃y: 𝒜 𝔅 ℂ 𝟙 → ⇒ ← ‖v‖₂ ∂f/∂x""".split("\n")
EMOJI = """😀 😂 🥰 🙏 👍 👍🏽 👩🏾‍🚀 👨‍👩‍👧‍👦 🏳️‍🌈 🏴‍☠️ 🇩🇪 🇺🇳 1️⃣ #️⃣ ❤️ ❤️‍🔥 ☎︎ ☎️ ✈ 🤷🏻‍♂️ 🧑‍💻 🫠 🪿 🏴󠁧󠁢󠁥󠁮󠁧󠁿 ☃ ★ ♫ 🀄 🂡 🜁 🯰""".split()
SPACES = ["\t", "\n", "\r", "\r\n", "\v", "\f", "\x1c", "\x85", "\xa0", "\u1680", "\u2003", "\u2028",
          "\u2029", "\u202f", "\u205f", "\u3000", "\u180e", "\u200b", "\u200d", "\u2060", "\ufeff",
          "\xad", "\0", "\x01", "\x07", "\x1b", "\x7f", "\x9f", "\u0600", "\ue000", "\ufffd",
          "\uffff", "\U000e0001", "\U0010fffd", "  ", "   ", " ", "\n\n", " \n ", "\t\t"]
ADDED = ["[CLS]", "[SEP]", "[MASK]", "[PAD]", "[UNK]", "[mask]", "[MASK", "MASK]", "<|endoftext|>",
         "<|begin_of_text|>", "<|eot_id|>", "<|end", "<s>", "</s>", "<mask>", "<pad>", "<sym>",
         "<SYM>", "Ünït", "unit", "WORD", "xWORD", "WORDy", "<lr>", "<l>", "<r>", "<r><l>", "<lr"]
BROKEN = [b"\xff", b"\xc3", b"\xe2\x82", b"\xf0\x9f\x98", b"\xed\xa0\x80", b"\xc0\xaf", b"\x80",
          b"\xf4\x90\x80\x80", b"\xe0\x80\x80", b"\xf0\x82\x82\xac", b"\xbf\xbf", b"\xe2\x28\xa1",
          b"\xf8\x88\x80\x80\x80", b"\xe4\xb8", b"a\xcc"]
CODE = ["https://example.org/a?b=c&d=%20#e", "user.name+tag@mail.example", "int main() { return 0; }",
        "3.14159", "1,234,567.89", "1234567890123", "2026-11-26T11:24:22Z", "$9.99", "50%", "C++20",
        "snake_case_name", "camelCaseName", "x'store", "don't", "DON'T", "we'LL", "I'M", "it's", "IT'S",
        "they'Ve", "o'clock", "'sup", "rock'n'roll", "'re", "y'all'd've", "''s", "'ſ", "e.g.", "U.S.A.",
        "...", "?!", "--", "—", "“quoted”", "«guillemets»", "#hashtag", "\\path\\to", "<b>bold</b>",
        "{\"key\": [1, 2]}", "a\u0301", "e\u0323\u0302", "q\u0307\u0323", "\u1ebf", "½", "x³"]


def code_points():
    """Those of Unicode 8, block by block of 256, and those that are younger."""
    here = pathlib.Path(__file__).resolve().parents[2]
    text = (here / "examples/tokenizers/unicode_ranges.inl").read_text()
    table = re.search(r"kUnicode8\[\] = \{(.*?)\n\};", text, re.S).group(1)
    old = [c for first, last in re.findall(r"\{(0x[0-9a-f]+), (0x[0-9a-f]+)\}", table)
           for c in range(int(first, 16), int(last, 16) + 1) if not 0xD800 <= c < 0xE000]
    blocks = {}
    for c in old:
        blocks.setdefault(c >> 8, []).append(chr(c))
    known = set(old)
    young = [chr(c) for c in range(0x370, 0x32000) if c not in known and not 0xD800 <= c < 0xE000]
    return list(blocks.values()), young


def sentence(rng):
    words = [rng.choice(WORDS) for _ in range(rng.randint(3, 25))]
    for _ in range(rng.randint(0, 3)):
        words[rng.randrange(len(words))] = rng.choice(CODE)
    for _ in range(rng.randint(0, 2)):
        i = rng.randrange(len(words))
        words[i] = rng.choice([words[i].upper(), words[i].title(), words[i] + ",", f"({words[i]})"])
    return " ".join(words).capitalize() + rng.choice([".", "!", "?", "", "..."])


def make_lines():
    rng = random.Random(8)
    blocks, young = code_points()
    marks = [c for block in blocks for c in block
             if __import__("unicodedata").combining(c) or 0x300 <= ord(c) < 0x370]

    def phrase():
        words = rng.choice(PHRASES).split(" ")
        begin = rng.randrange(len(words))
        return " ".join(words[begin:begin + rng.randint(1, 8)])

    def characters():
        block = rng.choice(blocks[:0x120] if rng.random() < 0.8 else blocks)
        return "".join(rng.choice(block) + rng.choice(["", "", "", " "])
                       for _ in range(rng.randint(1, 12)))

    def accents():
        return "".join(rng.choice("aeiounscgAEIÅÜñ가かΩи") + "".join(
            rng.choice(marks) for _ in range(rng.randint(0, 3))) for _ in range(rng.randint(1, 8)))

    def spaces():
        return "".join(rng.choice(WORDS + SPACES * 8) for _ in range(rng.randint(1, 10)))

    def added():
        parts = [rng.choice(ADDED + WORDS[:20]) for _ in range(rng.randint(1, 7))]
        return "".join(p + rng.choice(["", "", " ", "  ", "\u00a0", ".", "\n"]) for p in parts)

    def mixed():
        return rng.choice(["", " ", " "]).join(
            rng.choice([phrase, characters, accents, spaces, added, lambda: rng.choice(EMOJI),
                        lambda: rng.choice(CODE), lambda: rng.choice(WORDS)])()
            for _ in range(rng.randint(1, 5)))

    def broken():
        bytes_ = bytearray(mixed().encode())
        for _ in range(rng.randint(1, 3)):
            at = rng.randint(0, len(bytes_))
            bytes_[at:at] = rng.choice(BROKEN)
        return bytes(bytes_)

    kinds = [(lambda: sentence(rng), 1250), (phrase, 800), (characters, 900), (accents, 350),
             (lambda: rng.choice(["", " "]).join(rng.choice(EMOJI + WORDS[:9])
                                                 for _ in range(rng.randint(1, 8))), 300),
             (spaces, 350), (added, 400), (broken, 300), (mixed, 200),
             (lambda: "".join(rng.choice(young + [" ", "a", "é"] * 900)
                              for _ in range(rng.randint(1, 9))), 110)]
    lines = [(1, b"")]
    for make, count in kinds:
        lines += [(1, x if isinstance(x, bytes) else x.encode())
                  for x in (make() for _ in range(count))]
    for count, text in [(100, "a"), (101, "a"), (5000, "a"), (3000, "un"), (20000, " "), (700, "\n"),
                        (2000, "the cat sat. "), (100, "a\u0301"), (101, "a\u0301"), (900, "中"),
                        (1000, "\u0301"), (1500, "1"), (50, "<|endoftext|>"), (300, "[MASK] "),
                        (800, "!"), (64, "ab" * 40), (400, "👩🏾‍🚀"), (999, "한"), (2500, "'s"),
                        (600, "internationalization ")]:
        lines.append((count, text.encode()))
    while len(lines) < COUNT:
        lines.append((1, (" " * rng.randint(0, 3) + mixed()).encode()))
    return lines[:COUNT]


def escaped(count, line):
    text = line.decode("utf-8", "surrogateescape")
    out = "".join(c if c.isprintable() and c != "\\" or c == " " else
                  "".join(f"\\x{b:02x}" for b in c.encode("utf-8", "surrogateescape"))
                  for c in text)
    if count == 1 and out.startswith("@"):
        out = "\\x40" + out[1:]
    return (f"@{count} " if count > 1 else "") + out


def train_word_piece(texts, normalizer, pre_tokenizer, size):
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizer
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer.train_from_iterator(texts, trainers.WordPieceTrainer(
        vocab_size=size, special_tokens=specials, show_progress=False, limit_alphabet=400))
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(x, tokenizer.token_to_id(x)) for x in ("[CLS]", "[SEP]")])
    return tokenizer


def train_bpe(texts, pre_tokenizer, size, specials, **options):
    tokenizer = Tokenizer(models.BPE(**options))
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(
        vocab_size=size, special_tokens=specials, show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
          r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")


def split_then_bytes(pattern):
    return pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(pattern), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def make_models(texts):
    """name: tokenizer"""
    made = {}
    bert = made["bert_uncased"] = train_word_piece(
        texts, normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer(), 2000)
    bert.add_tokens(["<sym>", AddedToken("Ünït", normalized=True),
                     AddedToken("WORD", single_word=True, normalized=False),
                     AddedToken("<lr>", lstrip=True, rstrip=True, normalized=False),
                     AddedToken("<l>", lstrip=True, normalized=False),
                     AddedToken("<r>", rstrip=True, normalized=True)])
    made["bert_cased"] = train_word_piece(
        texts, normalizers.BertNormalizer(lowercase=False), pre_tokenizers.BertPreTokenizer(), 1200)
    made["normalizers"] = train_word_piece(
        texts, normalizers.Sequence([
            normalizers.NFKC(), normalizers.Replace("the", "<the>"), normalizers.NFD(),
            normalizers.StripAccents(), normalizers.Lowercase(), normalizers.NFC(),
            normalizers.Prepend("_")]), pre_tokenizers.WhitespaceSplit(), 900)
    gpt2 = made["gpt2"] = train_bpe(texts, pre_tokenizers.ByteLevel(add_prefix_space=False), 1500,
                                    ["<|endoftext|>"])
    gpt2.post_processor = processors.ByteLevel(trim_offsets=False)
    llama = made["llama3"] = train_bpe(texts, split_then_bytes(LLAMA3), 1200, [],
                                       ignore_merges=True)
    llama.add_special_tokens(["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"])
    llama.post_processor = processors.Sequence([
        processors.ByteLevel(), processors.TemplateProcessing(
            single="<|begin_of_text|> $A", pair="<|begin_of_text|> $A <|begin_of_text|>:1 $B:1",
            special_tokens=[("<|begin_of_text|>", llama.token_to_id("<|begin_of_text|>"))])])
    qwen = made["qwen2"] = train_bpe(
        texts, split_then_bytes(LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")), 700, [])
    qwen.normalizer = normalizers.NFC()
    qwen.add_special_tokens(["<|endoftext|>"])
    roberta = made["roberta"] = train_bpe(texts, pre_tokenizers.ByteLevel(add_prefix_space=True), 700,
                                          ["<s>", "<pad>", "</s>", "<unk>"])
    roberta.add_special_tokens([AddedToken("<mask>", lstrip=True)])
    roberta.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    return made


def compact(tokenizer, name):
    """Its JSON, with the words of a vocabulary one after the other; older files write merges as text."""
    file = json.loads(tokenizer.to_str())
    if name in ("gpt2", "roberta"):
        file["model"]["merges"] = [" ".join(pair) for pair in file["model"]["merges"]]
    if name == "bert_uncased":
        file["truncation"] = {"max_length": 128, "strategy": "LongestFirst", "stride": 0,
                              "direction": "Right"}
    return json.dumps(file, ensure_ascii=False, separators=(",", ":")) + "\n"


def hash_of(bytes_):
    value = 0x811C9DC5
    for byte in bytes_:
        value = (value ^ byte) * 0x01000193 & 0xFFFFFFFF
    return f"{value:08x}"


def ids_of(tokenizer, lines):
    tokenizer.no_truncation()
    tokenizer.no_padding()
    out = []
    for i, (count, line) in enumerate(lines):
        ids = tokenizer.encode((line * count).decode("utf-8", "replace")).ids
        words = [hash_of(b"".join(x.to_bytes(4, "little") for x in ids))]
        if i % 10 == 0:
            words.append(hash_of(tokenizer.decode(ids).encode()))
        if i % 100 == 0:
            words += map(str, ids)
        out.append(" ".join(words))
    return "\n".join(out) + "\n"


def main():
    lines = make_lines()
    texts = [line.decode("utf-8", "replace") for count, line in lines if count == 1]
    check = sys.argv[1] == "--check"
    folder = pathlib.Path(sys.argv[2 if check else 1])
    made = {"lines.txt": "\n".join(escaped(*x) for x in lines) + "\n"}
    if check:
        names = sorted(p.stem for p in folder.glob("*.json"))
    else:
        trained = make_models(texts)
        names = sorted(trained)
        for name in names:
            (folder / f"{name}.json").write_text(compact(trained[name], name))
    for name in names:
        made[f"{name}.ids"] = ids_of(Tokenizer.from_file(str(folder / f"{name}.json")), lines)
    if not check and len(sys.argv) > 2:
        file = pathlib.Path(sys.argv[2]) / "tokenizer.json"
        made["minilm.ids"] = ids_of(Tokenizer.from_file(str(file)), lines)
    different = 0
    for name, text in made.items():
        if not check:
            (folder / name).write_text(text)
        elif (folder / name).read_text() != text:
            print(f"{name} differs")
            different += 1
    sys.exit(different)


if __name__ == "__main__":
    main()
