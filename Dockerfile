# serve.py on a CPU with an exported model, without PyTorch; docs/serve.md has the commands.
FROM python:3.12-slim
WORKDIR /app
COPY requirements/deploy.txt requirements/serve.txt requirements/
RUN python -m pip install --no-cache-dir -r requirements/deploy.txt -r requirements/serve.txt
COPY serve.py ./
COPY artifacts artifacts
COPY images images
COPY inference inference
COPY serving serving
COPY system system
USER nobody
EXPOSE 8000
HEALTHCHECK CMD ["python", "-c", "import urllib.request as web; web.urlopen('http://127.0.0.1:8000/health')"]
ENTRYPOINT ["python", "serve.py", "--host", "0.0.0.0", "--model", "/model.onnx"]
