"""Files as people and machines have them, for signal_kit.py: real ones of this system (documents, sources, libraries, pictures), and such
as real programs make here: ffmpeg's videos, pictures and sounds, archives of every common packer, office documents, PDF files, SQLite
databases. Made once in a folder; the same seed chooses the same files of the same system."""
import glob
import os
import random
import shutil
import sqlite3
import subprocess
import zipfile
import zlib


def sh(command, **more):
    subprocess.run(command, shell=True, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **more)


def files_of(folders, suffixes, at_least, at_most):
    """Links are not followed: some lead back up."""
    found = []
    for folder in folders:
        for where, _, names in os.walk(folder):
            for name in names:
                path = os.path.join(where, name)
                if name.endswith(suffixes) and not os.path.islink(path) and at_least <= os.path.getsize(path) <= at_most:
                    found.append(path)
    return sorted(found)[:20000]


VIDEOS = [
    ("mp4", "-f lavfi -i testsrc2=size=640x360:rate=25,noise=alls=20:allf=t -t 12 -c:v libx264 -preset veryfast"),
    ("mp4", "-f lavfi -i mandelbrot=size=640x360:rate=25 -t 12 -c:v libx264 -preset ultrafast -movflags frag_keyframe+empty_moov"),
    ("ts", "-f lavfi -i testsrc2=size=640x360:rate=25,noise=alls=12:allf=t -t 12 -c:v libx264 -preset ultrafast -b:v 4M"),
    ("mkv", "-f lavfi -i mandelbrot=size=480x270:rate=25 -t 10 -c:v libx265 -preset ultrafast"),
    ("webm", "-f lavfi -i mandelbrot=size=480x270:rate=25 -t 10 -c:v libvpx-vp9 -deadline realtime -cpu-used 8 -b:v 3M"),
    ("avi", "-f lavfi -i testsrc2=size=640x360:rate=25,noise=alls=10:allf=t -t 8 -c:v mjpeg -q:v 5"),
    ("mpg", "-f lavfi -i testsrc2=size=640x360:rate=25,noise=alls=8:allf=t -t 10 -c:v mpeg2video -b:v 5M"),
    ("mp3", "-f lavfi -i anoisesrc=d=60:a=0.3:c=pink -c:a libmp3lame -b:a 192k"),
    ("ogg", "-f lavfi -i anoisesrc=d=60:a=0.3:c=brown -c:a libvorbis"),
    ("flac", "-f lavfi -i anoisesrc=d=15:a=0.3:c=pink"),
    ("m4a", "-f lavfi -i anoisesrc=d=60:a=0.3:c=pink -c:a aac -b:a 160k"),
]


class Corpus:
    def __init__(self, folder):
        self.folder = folder
        self.text = files_of(["/usr/share/doc", "/usr/share/perl"], ("copyright", ".txt", ".md", ".html", ".pm", "README"), 2000, 400000)
        self.source = files_of(["/usr/include"], (".h", ".hpp"), 1500, 200000)
        self.binary = files_of(["/usr/lib/x86_64-linux-gnu", "/usr/bin"], "", 8000, 3000000)
        self.png = files_of(["/usr/share", "/usr/local/lib"], (".png",), 4000, 2000000)
        self.doc_gz = files_of(["/usr/share/doc", "/usr/share/man"], (".gz",), 2000, 400000)
        if not os.path.exists(folder + "/done"):
            shutil.rmtree(folder, ignore_errors=True)
            os.makedirs(folder)
            self.make(random.Random("corpus"))
            open(folder + "/done", "w").close()
        made = sorted(glob.glob(folder + "/*.*"))
        self.by_kind = {kind: [p for p in made if os.path.basename(p).startswith(kind + "-")]
                        for kind in ("video", "jpg", "office", "pdf", "archive", "sqlite")}
        self.video, self.jpg, self.office, self.pdf, self.archive, self.sqlite = self.by_kind.values()

    def path(self, kind, number, suffix):
        return f"{self.folder}/{kind}-{number:03d}.{suffix}"

    def make(self, rng):
        for i, (suffix, options) in enumerate(VIDEOS):
            sh(f"ffmpeg -v error -y {options} {self.path('video', i, suffix)}")
        for i, source in enumerate(("mandelbrot=size=1280x720:rate=5", "testsrc2=size=1600x900:rate=5,noise=alls=18:allf=t",
                                    "cellauto=size=1024x768:rate=5", "gradients=size=1920x1080:rate=5")):
            sh(f"ffmpeg -v error -y -f lavfi -i {source} -t 5 -q:v {2 + 2 * i} {self.folder}/jpg-{i}%02d.jpg")
        for i in range(40):
            self.make_office(rng, i)
            self.make_pdf(rng, i)
        for i in range(64):
            self.make_archive(rng, i)
        for i in range(6):
            self.make_sqlite(rng, i)

    def make_office(self, rng, i):
        """As a word processor writes them: a zip of XML and pictures."""
        with zipfile.ZipFile(self.path("office", i, rng.choice(["docx", "xlsx", "odt"])), "w", zipfile.ZIP_DEFLATED) as pack:
            pack.writestr("[Content_Types].xml", '<?xml version="1.0"?><Types/>' * 8)
            for k in range(rng.randint(1, 6)):
                text = open(rng.choice(self.text), "rb").read()[:200000]
                pack.writestr(f"word/document{k}.xml", b"<w:p><w:r><w:t>" + text.replace(b"<", b"&lt;") + b"</w:t></w:r></w:p>")
            if self.png and rng.random() < 0.6:
                pack.write(rng.choice(self.png), "word/media/image1.png", compress_type=zipfile.ZIP_STORED)

    def make_pdf(self, rng, i):
        with open(self.path("pdf", i, "pdf"), "wb") as out:
            out.write(b"%PDF-1.5\n%\xe2\xe3\xcf\xd3\n")
            for number in range(1, rng.randint(4, 40)):
                stream = zlib.compress(open(rng.choice(self.text), "rb").read()[:rng.randint(2000, 60000)])
                out.write(b"%d 0 obj\n<< /Length %d /Filter /FlateDecode >>\nstream\n" % (number, len(stream)) + stream)
                out.write(b"\nendstream\nendobj\n")
            out.write(b"xref\n" + b"".join(b"%010d 00000 n \n" % (k * 977) for k in range(number)) + b"trailer\n%%EOF\n")

    def make_archive(self, rng, i):
        names = rng.sample(self.text, rng.randint(5, 40)) + rng.sample(self.binary, rng.randint(0, 5)) + rng.sample(self.source, 20)
        listed = self.folder + "/list"
        with open(listed, "w") as out:
            out.write("\n".join(names) + "\n")
        suffix, command = (("tar.gz", "tar czf"), ("tar.xz", "tar cJf"), ("tar.bz2", "tar cjf"), ("tar.zst", "tar --zstd -cf"),
                           ("tar", "tar cf"), ("zip", "zip"), ("7z", "7z"))[i % 7]
        path = self.path("archive", i, suffix)
        if command == "zip":
            sh(f"zip -q {path} -@ < {listed}")
        elif command == "7z":
            sh(f"7z a -bd -spf -mx3 {path} @{listed}")
        else:
            sh(f"{command} {path} -P -T {listed}")
        os.unlink(listed)

    def make_sqlite(self, rng, i):
        database = sqlite3.connect(self.path("sqlite", i, "db"))
        database.execute("create table mail(id integer primary key, who text, body text, data blob)")
        for _ in range(rng.randint(50, 400)):
            text = open(rng.choice(self.text), "rb").read()[:rng.randint(100, 6000)]
            database.execute("insert into mail(who, body, data) values (?, ?, ?)",
                             (f"user{rng.randint(1, 99)}", text.decode("latin1"), zlib.compress(text) if rng.random() < 0.3 else None))
        database.commit()
        database.close()

    def pick(self, rng):
        """Something as it lies in a home folder."""
        kinds = [(self.office, 25), (self.pdf, 15), (self.jpg, 14), (self.png, 8), (self.text, 16), (self.source, 6), (self.doc_gz, 3),
                 (self.sqlite, 3), (self.archive, 4), (self.video, 2), (self.binary, 4)]
        kinds = [(files, weight) for files, weight in kinds if files]
        return rng.choice(rng.choices([k[0] for k in kinds], [k[1] for k in kinds])[0])
