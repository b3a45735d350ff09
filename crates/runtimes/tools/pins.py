#!/usr/bin/env python3
"""Writes crates/runtimes/pins.toml anew: asks an index for the wheels named here, and reads only their tables of contents.

The index is --index-url, else BESPOKE_INDEX_URL, else the one that pip uses. Nothing is installed. A wheel's digest is what the index
says of it, so look at every changed line before you commit it: the downloads of all users are held against them.

    python3 crates/runtimes/tools/pins.py > pins.toml && mv pins.toml crates/runtimes/pins.toml
"""
import argparse, fnmatch, html, io, os, re, subprocess, sys, urllib.parse, urllib.request, zipfile

LINUX_X, LINUX_A, MACOS_A = "linux-x86_64", "linux-aarch64", "macos-aarch64"
PLATFORMS = {LINUX_X: r"manylinux\w*_x86_64", LINUX_A: r"manylinux\w*_aarch64", MACOS_A: r"macosx_\w*_(arm64|universal2)"}

# Licence, and whether a release may carry the files. What may not is only ever downloaded by its user.
# The wheels of XLA hold neither their licence nor the notices of what is linked into them, which whoever passes them on has to add.
MIT, APACHE = ("MIT", True), ("Apache-2.0", False)
NVIDIA, GOOGLE = ("LicenseRef-NVIDIA", False), ("LicenseRef-Google-Cloud", False)

# What of a wheel is wanted: a pattern and its place below the pack. `*` keeps the name. What is NVIDIA's keeps its path.
ORT = {"onnxruntime/capi/libonnxruntime.*": "lib/*", "onnxruntime/capi/libonnxruntime_providers_shared.so": "lib/*",
       "onnxruntime/capi/libonnxruntime_providers_cuda.so": "lib/*",
       "onnxruntime/LICENSE": "licenses/*", "onnxruntime/ThirdPartyNotices.txt": "licenses/*"}
SHARED = {"nvidia/*/lib/*.so*": "@", "nvidia/*/bin/ptxas": "@", "nvidia/*/bin/nvlink": "@", "nvidia/*/nvvm/libdevice/*.bc": "@",
          "nvidia/*/nvvm/lib64/*.so*": "@", "*.dist-info/licenses/License.txt": "licenses/{project}/*", "*.dist-info/License.txt": "licenses/{project}/*"}
UNUSED = ["libnvblas.so*", "libcusolverMg.so*", "libcheckpoint.so", "libpcsamplingutil.so"]

CU13 = {"nvidia-cublas": "13.10.0.20", "nvidia-cudnn-cu13": "9.27.0.42", "nvidia-cufft": "12.4.0.43", "nvidia-curand": "10.4.4.72",
        "nvidia-cuda-runtime": "13.5.37", "nvidia-cuda-nvrtc": "13.5.37", "nvidia-cusolver": "12.4.1.2", "nvidia-cusparse": "12.9.4.2",
        "nvidia-nvjitlink": "13.5.37", "nvidia-cuda-cupti": "13.4.92", "nvidia-cuda-nvcc": "13.5.37", "nvidia-nvvm": "13.5.37",
        "nvidia-nccl-cu13": "2.32.3", "nvidia-nvshmem-cu13": "3.8.0"}
CU12 = {"nvidia-cublas-cu12": "12.9.3.13", "nvidia-cudnn-cu12": "9.27.0.42", "nvidia-cufft-cu12": "11.4.1.4", "nvidia-curand-cu12": "10.3.10.19",
        "nvidia-cuda-runtime-cu12": "12.9.79", "nvidia-cuda-nvrtc-cu12": "12.9.86", "nvidia-cusolver-cu12": "11.7.5.82",
        "nvidia-cusparse-cu12": "12.5.9.5", "nvidia-nvjitlink-cu12": "12.9.86", "nvidia-cuda-cupti-cu12": "12.9.79",
        "nvidia-cuda-nvcc-cu12": "12.9.86", "nvidia-nccl-cu12": "2.32.3", "nvidia-nvshmem-cu12": "3.8.0"}


def of(versions, *words):
    """The wheels whose names have one of the words, in the order of the words."""
    return [(project, version) for word in words for project, version in versions.items() if re.fullmatch(f"nvidia-(cuda-)?{word}(-cu1[23])?", project)]


# Libraries that a runtime opens by name alone are loaded before it, those that others need first.
ONNX_NEEDS = ["runtime", "cublas", "nvrtc", "curand", "nvjitlink", "cufft", "cudnn"]
ONNX_FIRST = ["libcudart.so.*", "libcublasLt.so.*", "libcublas.so.*", "libnvrtc.so.*", "libcurand.so.*", "libnvJitLink.so.*", "libcufft.so.*",
              "libcudnn.so.*", "libcudnn_graph.so.*", "libcudnn_ops.so.*", "libcudnn_heuristic.so.*", "libcudnn_adv.so.*", "libcudnn_cnn.so.*",
              "libcudnn_engines_precompiled.so.*", "libcudnn_engines_runtime_compiled.so.*"]
XLA_NEEDS = ["runtime", "cublas", "nvrtc", "nvjitlink", "cufft", "cusparse", "cusolver", "cupti", "nvcc", "nvvm", "nccl", "nvshmem", "cudnn"]
XLA_FIRST = ["libcudart.so.*", "libnvrtc.so.*", "libcublasLt.so.*", "libcublas.so.*", "libnccl.so.*", "libcupti.so.*", "libnvJitLink.so.*",
             "libcusparse.so.*", "libcusolver.so.*", "libcufft.so.*", "libnvshmem_host.so.*", "libcudnn.so.*"]
# spec, version, set, its own wheel, members, library, shared wheels, loaded first, licence, platforms
PACKS = [
    ("onnx:cpu", "1.28.0", None, ("onnxruntime", "1.28.0"), ORT, "lib/libonnxruntime.*", [], [], MIT, [LINUX_X, LINUX_A, MACOS_A]),
    ("onnx:cuda", "1.28.0+cu13", "cu13", ("onnxruntime-gpu", "1.28.0"), ORT, "lib/libonnxruntime.so.*", of(CU13, *ONNX_NEEDS), ONNX_FIRST, MIT, [LINUX_X]),
    ("onnx:cuda", "1.26.0+cu12", "cu12", ("onnxruntime-gpu", "1.26.0"), ORT, "lib/libonnxruntime.so.*", of(CU12, *ONNX_NEEDS), ONNX_FIRST, MIT, [LINUX_X]),
    ("xla:cpu", "0.0.1", None, ("xla-cpu-pjrt", "0.0.1"), {"xla_plugins/xla_cpu_pjrt/xla_cpu_pjrt.so": "lib/*"}, "lib/*.so", [], [], APACHE, [LINUX_X, LINUX_A]),
    ("xla:cuda", "0.12.0.1+cu13", "cu13", ("jax-cuda13-pjrt", "0.12.0.1"), {"jax_plugins/xla_cuda13/xla_cuda_plugin.so": "lib/xla_cuda13/*"},
     "lib/*/xla_cuda_plugin.so", of(CU13, *XLA_NEEDS), XLA_FIRST, APACHE, [LINUX_X, LINUX_A]),
    ("xla:cuda", "0.12.0.1+cu12", "cu12", ("jax-cuda12-pjrt", "0.12.0.1"), {"jax_plugins/xla_cuda12/xla_cuda_plugin.so": "lib/xla_cuda12/*"},
     "lib/*/xla_cuda_plugin.so", of(CU12, *XLA_NEEDS), XLA_FIRST, APACHE, [LINUX_X, LINUX_A]),
    ("xla:tpu", "0.0.51", None, ("libtpu", "0.0.51"), {"libtpu/libtpu.so": "lib/*", "libtpu/LICENSE": "licenses/*", "libtpu/THIRD_PARTY_NOTICES.txt": "licenses/*"},
     "lib/libtpu.so", [], [], GOOGLE, [LINUX_X]),
    ("cuda:nvrtc", "13.5.37+cu13", "cu13", None, {}, "nvidia/*/lib/libnvrtc.so.*", of(CU13, "nvrtc"), [], NVIDIA, [LINUX_X, LINUX_A]),
    ("cuda:nvrtc", "12.9.86+cu12", "cu12", None, {}, "nvidia/*/lib/libnvrtc.so.*", of(CU12, "nvrtc"), [], NVIDIA, [LINUX_X, LINUX_A]),
]


class Index:
    def __init__(self, url):
        self.url, self.pages = url.rstrip("/"), {}

    def files(self, project):
        if project not in self.pages:
            with urllib.request.urlopen(f"{self.url}/{project}/", timeout=60) as answer:
                base, text = answer.url, answer.read().decode()
            links = (urllib.parse.urljoin(base, html.unescape(href)).partition("#") for href in re.findall(r'<a\s[^>]*href="([^"]+)"', text))
            self.pages[project] = {urllib.parse.unquote(url.rsplit("/", 1)[1]): (url, mark.removeprefix("sha256=")) for url, _, mark in links}
        return self.pages[project]

    def choose(self, project, version, platform):
        def fits(name):
            parts = name.removesuffix(".whl").split("-")
            return name.endswith(".whl") and parts[1] == version and parts[2] in ("py3", "cp312") and parts[3] in ("none", "cp312") and re.search(PLATFORMS[platform], parts[4])
        # The libraries are the same for each version of Python.
        found = sorted(filter(fits, self.files(project)))
        if not found:
            sys.exit(f"{project} {version} has no wheel for {platform}")
        return (found[0], *self.files(project)[found[0]])


class Remote(io.RawIOBase):
    """A file of which only what is read is fetched."""
    def __init__(self, url):
        self.url, self.at = url, 0
        with self.get("bytes=-65536") as answer:
            self.size, self.tail = int(answer.headers["Content-Range"].split("/")[1]), answer.read()

    def get(self, span):
        return urllib.request.urlopen(urllib.request.Request(self.url, headers={"Range": span}), timeout=60)

    def seekable(self):
        return True

    def seek(self, offset, whence=0):
        self.at = (0, self.at, self.size)[whence] + offset
        return self.at

    def tell(self):
        return self.at

    def read(self, length=-1):
        length = self.size - self.at if length < 0 else min(length, self.size - self.at)
        start = self.size - len(self.tail)
        if length <= 0:
            return b""
        if self.at >= start:
            read = self.tail[self.at - start:self.at - start + length]
        else:
            with self.get(f"bytes={self.at}-{self.at + length - 1}") as answer:
                read = answer.read()
        self.at += len(read)
        return read


def members(archive, wanted, project):
    for entry in archive.infolist():
        name = entry.filename
        base = name.rsplit("/", 1)[-1]
        if any(fnmatch.fnmatchcase(base, no) for no in UNUSED):
            continue
        place = next((to for pattern, to in wanted.items() if fnmatch.fnmatchcase(name, pattern)), None)
        if place:
            yield name, name.removeprefix("nvidia/") if place == "@" else place.replace("*", base).replace("{project}", project), entry.file_size


def default_index():
    help = subprocess.run([sys.executable, "-m", "pip", "download", "--help"], env={**os.environ, "COLUMNS": "4096"}, capture_output=True, text=True).stdout
    found = re.search(r"--index-url <url>.*?\(default:?\s*([^)\s]+)\)", help, re.S)
    return found.group(1) if found else sys.exit("pip names no index; give --index-url")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--index-url", default=os.environ.get("BESPOKE_INDEX_URL"))
    index = Index(parser.parse_args().index_url or default_index())
    wheels, packs = {}, []

    def wheel(project, version, platform, wanted, licence):
        file, url, sha256 = index.choose(project, version, platform)
        if file not in wheels:
            print(file, file=sys.stderr)
            remote = Remote(url)
            found = list(members(zipfile.ZipFile(remote), wanted, project))
            lines = [f"project = \"{project}\"", f"version = \"{version}\"", f"file = \"{file}\"", f"size = {remote.size}", f"sha256 = \"{sha256}\"",
                     f"license = \"{licence[0]}\"", f"redistribute = {str(licence[1]).lower()}", "members = ["]
            lines += [f"  {{ name = \"{name}\", to = \"{to}\", size = {size} }}," for name, to, size in found]
            wheels[file] = ("\n".join(["[[wheels]]", *lines, "]"]), [to for _, to, _ in found])
        return file

    for spec, version, kind, own, wanted, library, shared, first, licence, platforms in PACKS:
        for platform in platforms:
            own_file = [wheel(*own, platform, wanted, licence)] if own else []
            shared_files = [wheel(project, v, platform, SHARED, NVIDIA) for project, v in shared]
            places = [to for file in own_file for to in wheels[file][1]]
            nvidia = ["nvidia/" + to for file in shared_files for to in wheels[file][1] if not to.startswith("licenses/")]
            found = [to for to in places + nvidia if fnmatch.fnmatchcase(to, library)]
            loaded = [to for pattern in first for to in nvidia if fnmatch.fnmatchcase(to.rsplit("/", 1)[1], pattern)]
            if len(found) != 1 or len(loaded) != len(first):
                sys.exit(f"{spec} {version} on {platform}: library {found}, loaded first {loaded}")
            lines = [f"spec = \"{spec}\"", f"version = \"{version}\"", f"platform = \"{platform}\""] + ([f"set = \"{kind}\""] if kind else [])
            lines += [f"library = \"{found[0]}\""]
            for key, values in (("wheels", own_file), ("shared", shared_files), ("preload", loaded)):
                if values:
                    lines += [f"{key} = ["] + [f"  \"{value}\"," for value in values] + ["]"]
            packs.append("\n".join(["[[packs]]", *lines]))
    print("# The runtimes that can be installed, by platform, and the wheels that they are in. Written by tools/pins.py.")
    print("# A pack has wheels of its own and wheels of NVIDIA's that packs share; of each wheel only the members named here are unpacked.\n")
    print("\n\n".join(packs + [text for text, _ in wheels.values()]))


if __name__ == "__main__":
    main()
