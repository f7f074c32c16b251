# captioning serve, without a GPU: docker build -t captioning . && docker run --rm -p 127.0.0.1:8080:8080 captioning
FROM python:3.11-slim-bookworm AS build
RUN pip install --no-cache-dir uv==0.9.*
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN uv venv /opt/captioning && \
    VIRTUAL_ENV=/opt/captioning uv pip install --no-cache --torch-backend cpu '.[serve,heif]'

FROM python:3.11-slim-bookworm
COPY --from=build /opt/captioning /opt/captioning
RUN useradd --uid 1000 --create-home captioning
USER 1000
WORKDIR /home/captioning
ENV PATH=/opt/captioning/bin:$PATH
EXPOSE 8080
HEALTHCHECK CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/healthz')"]
ENTRYPOINT ["captioning"]
CMD ["serve", "--host", "0.0.0.0"]
